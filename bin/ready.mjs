/**
 * Makes a clone ready to run: packages from the lockfile, `dist/` from `src/`. Needs nothing but Node; does nothing when nothing changed.
 * Both steps hold one lock, so that `npm start` and `npm test` may begin at the same moment.
 */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { withLock } from './process-lock.mjs'

const root = fileURLToPath(new URL('../', import.meta.url))
const say = (line) => process.stderr.write(`${line}\n`)

/** Installs and builds what is missing or stale. */
export async function makeReady() {
  requireNode(20)
  if (isInstalled() && isBuilt()) return
  const lock = join(root, '.data', 'prepare.lock')
  const told = ({ pid }) => say(`waiting: process ${pid} is installing or building here`)
  await withLock(
    lock,
    async () => {
      if (!isInstalled()) await install()
      if (!isBuilt()) await build()
    },
    told,
  )
}

function requireNode(major) {
  if (Number(process.versions.node.split('.')[0]) >= major) return
  say(`Node ${process.versions.node} is too old: this needs Node ${major} or newer.`)
  process.exit(1)
}

/** Whether node_modules holds what the lockfile names (npm's own record of what it installed says so). */
export function isInstalled() {
  const record = join(root, 'node_modules', '.package-lock.json')
  if (!existsSync(record)) return false
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const present = JSON.parse(readFileSync(record, 'utf8')).packages
  return Object.entries(wanted).every(
    ([path, { version, optional, link }]) =>
      path === '' || link || (present[path]?.version ?? (optional ? version : undefined)) === version,
  )
}

async function install() {
  say('installing the packages of package-lock.json (the first time about 350 MB; some minutes on a slow line) …')
  const npm = process.env.npm_execpath
  const command = npm?.endsWith('.js') ? [process.execPath, npm] : ['npm']
  await run('npm ci', [...command, 'ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'])
}

/** Content of everything that `dist/` is made of. */
function sourceStamp() {
  const hash = createHash('sha256')
  const files = [
    join(root, 'package-lock.json'),
    join(root, 'tsconfig.json'),
    join(root, 'tsconfig.build.json'),
    join(root, 'bin', 'bundle-workflows.mjs'),
    join(root, 'bin', 'bundle-programs.mjs'),
    ...filesBelow(join(root, 'src')),
  ]
  for (const file of files) hash.update(relative(root, file)).update('\0').update(readFileSync(file)).update('\0')
  return hash.digest('hex')
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort()
}

export function isBuilt() {
  const stamp = join(root, 'dist', '.stamp')
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === sourceStamp()
}

/** Builds beside the old `dist/` and swaps at the end: who runs from it never sees half a build. Types are checked by `npm run types`. */
async function build() {
  const stamp = sourceStamp()
  const began = Date.now()
  say('building dist/ …')
  const fresh = join(root, 'dist.next')
  rmSync(fresh, { recursive: true, force: true })
  mkdirSync(fresh, { recursive: true })
  await run('the TypeScript compiler', [
    process.execPath,
    join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
    '-p',
    'tsconfig.build.json',
    '--noCheck',
    '--outDir',
    fresh,
  ])
  for (const file of filesBelow(join(root, 'src')).filter((name) => !name.endsWith('.ts')))
    cpSync(file, join(fresh, relative(join(root, 'src'), file)))
  if (existsSync(join(fresh, 'workflows', 'index.js')))
    await run('the workflow bundler', [process.execPath, join(root, 'bin', 'bundle-workflows.mjs'), fresh])
  if (existsSync(join(fresh, 'server.js')))
    await run('the program bundler', [process.execPath, join(root, 'bin', 'bundle-programs.mjs'), fresh])
  writeFileSync(join(fresh, '.stamp'), stamp)
  const old = join(root, 'dist.old')
  rmSync(old, { recursive: true, force: true })
  if (existsSync(join(root, 'dist'))) renameSync(join(root, 'dist'), old)
  renameSync(fresh, join(root, 'dist'))
  rmSync(old, { recursive: true, force: true })
  say(`built dist/ in ${((Date.now() - began) / 1000).toFixed(1)} s`)
}

async function run(what, [command, ...args]) {
  const began = Date.now()
  const alive = setInterval(() => say(`  ${what}: still at it after ${Math.round((Date.now() - began) / 1000)} s`), 15_000)
  try {
    await new Promise((resolve, reject) => {
      const child = spawn(command, args, { cwd: root, stdio: ['ignore', 2, 2] })
      child.once('error', reject)
      child.once('exit', (code, signal) =>
        code === 0 ? resolve() : reject(new Error(`${what} failed (${signal ?? `exit code ${code}`})`)),
      )
    })
  } finally {
    clearInterval(alive)
  }
}

/** One line and exit code 1 instead of a stack. */
export async function readyOrExit() {
  try {
    await makeReady()
  } catch (failure) {
    say(`cannot prepare this clone: ${failure.message}. See the output above; then run the same command again.`)
    process.exit(1)
  }
}
