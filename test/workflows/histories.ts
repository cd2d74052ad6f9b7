/** The recorded histories (`npm run histories`). */
import { readdir, readFile } from 'node:fs/promises'
import { type History, historyFromJSON } from '@temporalio/common/lib/proto-utils.js'

export const historiesFolder = new URL('../histories/', import.meta.url)

export interface RecordedHistory {
  /** `<workflow>-<case>`. */
  readonly name: string
  readonly text: string
}

export async function recordedHistories(): Promise<readonly RecordedHistory[]> {
  const files = (await readdir(historiesFolder)).filter((file) => file.endsWith('.json')).sort()
  return await Promise.all(
    files.map(async (file) => ({ name: file.slice(0, -'.json'.length), text: await readFile(new URL(file, historiesFolder), 'utf8') })),
  )
}

export const historyOf = ({ text }: RecordedHistory): History => historyFromJSON(JSON.parse(text))
