#!/usr/bin/env node
/** The server alone (spec/13 §4), also through npm's bin links: Postgres and Temporal are given by URL. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const script = fileURLToPath(new URL('../dist/server.js', import.meta.url))
if (!existsSync(script)) {
  process.stderr.write('The server is not built yet: run `npm run build` first.\n')
  process.exit(1)
}
process.argv[1] = script
await import(script)
