/** What our Temporal servers are started with (temporal-notes §3.2): the dev server by flags, docker-compose by dynamic-config.yml. */

import { searchAttributes } from '../client/starts.js'

/** Dynamic configuration: the defaults are made for clusters, these for a small box with short operations. */
export const dynamicConfig: Readonly<Record<string, number | string | boolean>> = {
  'history.transferProcessorMaxPollRPS': 2_000,
  'history.timerProcessorMaxPollRPS': 2_000,
  'history.timerProcessorMaxTimeShift': '20ms',
  'matching.numTaskqueueReadPartitions': 1,
  'matching.numTaskqueueWritePartitions': 1,
  'history.workflowIdReuseMinimalInterval': '0s',
  'system.enableActivityEagerExecution': true,
  'frontend.rps': 20_000,
  'frontend.namespaceRPS': 20_000,
  'history.rps': 20_000,
  'matching.rps': 20_000,
  'frontend.searchAttributesSizeOfValueLimit': 65_536,
  'worker.schedulerNamespaceStartWorkflowRPS': 200,
}

export interface TemporalStartLine {
  readonly port: number
  readonly uiPort: number | undefined
  readonly databaseFile: string
  readonly namespaces?: readonly string[]
}

/** Arguments of `temporal server start-dev`. */
export function startLine(line: TemporalStartLine): readonly string[] {
  const ui = line.uiPort === undefined ? ['--headless'] : ['--ui-port', String(line.uiPort)]
  return [
    ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(line.port), ...ui, '--log-level', 'error'],
    ...['--db-filename', line.databaseFile, '--sqlite-pragma', 'journal_mode=WAL', '--sqlite-pragma', 'synchronous=NORMAL'],
    ...(line.namespaces ?? []).flatMap((namespace) => ['--namespace', namespace]),
    ...Object.entries(searchAttributes).flatMap(([name, type]) => ['--search-attribute', `${name}=${type}`]),
    ...Object.entries(dynamicConfig).flatMap(([key, value]) => ['--dynamic-config-value', `${key}=${JSON.stringify(value)}`]),
  ]
}
