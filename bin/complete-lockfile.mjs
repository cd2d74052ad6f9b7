/**
 * Adds to package-lock.json the optional packages of other platforms that npm left out, because the registry it asked did not have them:
 * `npm ci` refuses a lockfile without them. Run it after `npm install`; test/packaging.test.ts says when it is needed.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const file = fileURLToPath(new URL('../package-lock.json', import.meta.url))
const lock = JSON.parse(readFileSync(file, 'utf8'))
const systems = ['android', 'darwin', 'freebsd', 'linux', 'win32', 'windows', 'openharmony', 'openbsd', 'netbsd', 'sunos', 'aix']
const processors = ['arm64', 'x64', 'ia32', 'arm', 'ppc64', 's390x', 'riscv64', 'loong64', 'mips64el', 'wasm32']

/** `@swc/core-linux-arm-gnueabihf` names its platform. */
function platformOf(name) {
  const words = name.split('/').at(-1).split(/[-_]/)
  const system = systems.find((one) => words.includes(one))
  const processor = processors.find((one) => words.includes(one))
  const libc = words.includes('musl') ? ['musl'] : words.includes('gnu') ? ['glibc'] : undefined
  return {
    ...(processor === undefined ? {} : { cpu: [processor] }),
    ...(libc === undefined || system !== 'linux' ? {} : { libc }),
    ...(system === undefined ? {} : { os: [system === 'windows' ? 'win32' : system] }),
  }
}

export function missingFrom({ packages }) {
  const isThere = (path, name) => {
    for (let folder = path; ; folder = folder.slice(0, Math.max(0, folder.lastIndexOf('/node_modules/')))) {
      if (packages[`${folder === '' ? '' : `${folder}/`}node_modules/${name}`] !== undefined) return true
      if (folder === '' || !folder.includes('/node_modules/')) return packages[`node_modules/${name}`] !== undefined
    }
  }
  return Object.entries(packages).flatMap(([path, { optionalDependencies = {}, dev }]) =>
    Object.entries(optionalDependencies)
      .filter(([name]) => !isThere(path, name))
      .map(([name, range]) => ({ name, version: range.replace(/^[\^~]/, ''), dev })),
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const missing = missingFrom(lock)
  for (const { name, version, dev } of missing)
    lock.packages[`node_modules/${name}`] = { version, ...platformOf(name), ...(dev ? { dev } : {}), optional: true }
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1))
  writeFileSync(file, `${JSON.stringify({ ...lock, packages: Object.fromEntries(sorted) }, null, 2)}\n`)
  process.stdout.write(missing.map(({ name, version }) => `added ${name}@${version}\n`).join(''))
}
