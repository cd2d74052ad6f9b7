import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { jest } from '@jest/globals'
import { createLog } from '../src/log.js'
import { eventually } from './support/eventually.js'

describe('the log file', () => {
  let folder: string
  let complaints: string[]
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'log-'))
    complaints = []
    jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
      complaints.push(String(text))
      return true
    })
  })
  afterEach(() => {
    jest.restoreAllMocks()
    rmSync(folder, { recursive: true })
  })

  /** Its file has a name that is known before. */
  function logInFolder() {
    const now = jest.spyOn(Date, 'now').mockReturnValue(1)
    try {
      return createLog({ level: 'warn', folder })
    } finally {
      now.mockRestore()
    }
  }

  it('holds a line of JSON for each that is logged', async () => {
    logInFolder().warn({ what: 'this' }, 'said')

    const written: unknown = await eventually(() => JSON.parse(readFileSync(join(folder, 'agent-server-1.jsonl'), 'utf8')))
    expect(written).toMatchObject({ msg: 'said', what: 'this' })
    expect([readdirSync(folder), complaints]).toEqual([['agent-server-1.jsonl'], []])
  })

  it.each([
    ['cannot be opened', 'EISDIR', (file: string) => mkdirSync(file)],
    ['has no room left on its disk', 'ENOSPC', (file: string) => symlinkSync('/dev/full', file)],
  ])('that %s is given up with one line on stderr, and no server ends for it', async (_what, reason, make) => {
    make(join(folder, 'agent-server-1.jsonl'))
    const log = logInFolder()

    log.warn('one')
    await eventually(() => complaints.length > 0)
    log.warn('another')

    expect(complaints).toEqual([expect.stringMatching(new RegExp(`^Cannot write logs to ${folder}: .*${reason}.*\n$`))])
  })
})
