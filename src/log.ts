/** Logging (spec/13 §8): JSON lines to a file, lines for people to stdout. Never secrets, tokens, passwords or payloads. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type DestinationStream, type Logger, multistream, pino, type StreamEntry } from 'pino'
import { default as pretty } from 'pino-pretty'

export interface LogOptions {
  readonly level: string
  /** Folder of the file log; undefined: no file. */
  readonly folder?: string
}

/** Members that are nobody's to read, wherever a line may carry them; nothing of ours logs them, an error of a library might. */
const secretNames = ['authorization', 'password', 'token', 'claimToken', 'writeToken', 'payload', 'body', 'headers', 'connectionString']
export const redaction = { paths: secretNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]), censor: '[redacted]' }

export function createLog(options: LogOptions): Logger {
  const streams: StreamEntry[] = [
    { level: 'trace', stream: pretty({ ignore: 'pid,hostname', messageFormat: '[agent-server] {msg}', sync: true }) },
  ]
  const file = options.folder === undefined ? null : fileIn(options.folder)
  if (file !== null) streams.push({ level: 'trace', stream: file })
  const silent = options.level === 'silent'
  return pino(
    { level: options.level, base: null, redact: redaction },
    silent ? pino.destination({ dest: 1, sync: true }) : multistream(streams),
  )
}

/** Where it cannot be written, or not any longer (its disk is full), one line on stderr says so and stdout goes on: no server ends for its log. */
function fileIn(folder: string): DestinationStream | null {
  let isOpen = true
  const giveUp = (failure: unknown): null => {
    if (isOpen) process.stderr.write(`Cannot write logs to ${folder}: ${failure instanceof Error ? failure.message : String(failure)}\n`)
    isOpen = false
    return null
  }
  try {
    mkdirSync(folder, { recursive: true })
  } catch (failure) {
    return giveUp(failure)
  }
  const file = pino.destination({ dest: join(folder, `agent-server-${Date.now()}.jsonl`), sync: false, mkdir: false })
  file.on('error', (failure) => {
    giveUp(failure)
    file.destroy() // or the end of the process would wait for what it holds
  })
  const write = (line: string): void => {
    if (isOpen) file.write(line)
  }
  return { write }
}
