/** One of our programs alone, on a database of the test's own: how it starts and ends. */
import { fileURLToPath } from 'node:url'
import { Child } from '../../src/dev/child.js'

type Variables = Readonly<Record<string, string | undefined>>

export const launchProgram = (program: 'server' | 'worker', variables: Variables): Child =>
  new Child({
    command: process.execPath,
    args: [fileURLToPath(new URL(`../../dist/${program}.js`, import.meta.url))],
    env: {
      TEMPORAL_ADDRESS: process.env.TEST_TEMPORAL_ADDRESS,
      HOST: '127.0.0.1',
      ELECTRIC_AGENTS_LOG_FILE: 'false',
      NODE_OPTIONS: undefined,
      ...variables,
    },
  })
