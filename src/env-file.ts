/** The `.env` file of the working folder: fills in variables that are not set; a missing or unreadable file is no error (spec/13 §3). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

export type Environment = Readonly<Record<string, string | undefined>>

/** Adds to `target` what the file sets and `target` does not. A blank value counts as not set. */
export function loadEnvFile(folder: string, target: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(parseEnvFile(textOf(join(folder, '.env'))))) {
    if ((target[name] ?? '').trim() === '') target[name] = value
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

const assignment =
  /^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^#\r\n]*?))[ \t]*(?:#.*)?$/gm

/** `NAME=value` lines; quotes keep blanks, `#` and line breaks; `\n` in double quotes is a line break. */
export function parseEnvFile(text: string): Record<string, string> {
  const pairs = [...text.matchAll(assignment)].map(([, name = '', double, single, bare = '']) => {
    return [name, double?.replaceAll('\\n', '\n').replaceAll('\\"', '"') ?? single ?? bare] as const
  })
  return Object.fromEntries(pairs)
}
