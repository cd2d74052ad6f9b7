/**
 * Bundles the programs of `<dist>` and compiles them: a start then reads a handful of files instead of some 1,400, and compiles none of them.
 * Names and exports of the programs stay, in their places is a line that loads the bundle (src/compiled.cjs); the modules that they were made of stay
 * beside them, for `npm start` and whoever imports one.
 */
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { build, transform } from 'esbuild'

const packages = fileURLToPath(new URL('../node_modules/', import.meta.url))
const dist = process.argv[2]

/** Where `<dist>` will be when it is complete. */
const home = fileURLToPath(new URL('../dist/', import.meta.url))

/** Bundled together: what `dev/libraries` exports is what the others run. */
const programs = ['server.js', 'worker.js', 'dev/libraries.js']

/** The thread that runs workflows loads its own code. */
const thread = '@temporalio/worker/lib/workflow/workflow-worker-thread.js'

/** What packages find beside or around themselves, and where their copy in the bundle finds it. */
const moved = new Map([
  [
    '@temporalio/core-bridge/common.js',
    ['__dirname', `bundle_.folderOf('@temporalio/core-bridge/package.json', '@temporalio/worker')`], // native: stays in its package
  ],
  [
    '@temporalio/worker/lib/workflow/threaded-vm.js',
    [`require.resolve('./workflow-worker-thread')`, `bundle_.beside('workflow-thread.cjs')`],
  ],
  ['pg/lib/stream.js', ['if (isCloudflareRuntime())', 'if (false)']], // asks by making a `Response`, which loads Node's copy of undici
  ['source-map/lib/read-wasm.js', ['path.join(__dirname, "mappings.wasm")', `bundle_.beside('mappings.wasm')`]],
])

/** They name places too, for what no program of ours does: log transports in threads, gRPC services of a server, replay in an editor, a message. */
const unused = [
  'pino/lib/transport.js',
  'thread-stream/index.js',
  '@grpc/grpc-js/build/src/channelz.js',
  '@grpc/grpc-js/build/src/orca.js',
  '@temporalio/worker/lib/debug-replayer/index.js',
  thread,
  'undici/index.js',
]

/** Workflows are bundled when `dist/` is built: webpack is loaded only if somebody asks for it. */
const replaced = new Map([
  [
    '@temporalio/worker/lib/workflow/bundler.js',
    `const bundler = () => require(bundle_.packageFile('@temporalio/worker/lib/workflow/bundler'))
     module.exports = {
       get WorkflowCodeBundler() { return bundler().WorkflowCodeBundler },
       get bundleWorkflowCode() { return bundler().bundleWorkflowCode },
       defaultWorkflowInterceptorModules: [bundle_.packageFile('@temporalio/worker/lib/workflow-log-interceptor')],
     }`,
  ],
])

const banner = `const bundle_ = {
  url: require('node:url').pathToFileURL(__filename).href,
  beside: (name) => require('node:path').join(__dirname, name),
  packageFile: (name) => require.resolve(name),
  folderOf: (name, owner) => require('node:path').dirname(require('node:module').createRequire(require.resolve(owner)).resolve(name)),
}`

/** The table of Temporal's messages, 1.4 MB of literal in every thread: V8 reads JSON text in a third of the time. */
const table = '@temporalio/proto/protos/json-module.js'

/** Messages that no program of ours exchanges, and those that never reach the thread that runs workflows: a start need not build them. */
const unspoken = ['temporal.api.cloud', 'grpc.gateway']
const outside = ['temporal.api.workflowservice', 'temporal.api.operatorservice', 'temporal.api.testservice', 'coresdk.nexus.NexusTask']

function asJson(text, without) {
  const [statement, literal] = /\.addJSON\((\{[\s\S]*\})\)/.exec(text)
  const messages = JSON.parse(literal)
  for (const path of without) remove(messages, path.split('.'))
  const left = JSON.stringify(messages)
  const asked = without.find((path) => namesOf(path).some((name) => left.includes(`"type":"${name}.`) || left.includes(`"type":"${name}"`)))
  if (asked !== undefined) throw new Error(`messages that stay refer to ${asked}`)
  return text.replace(statement, () => `.addJSON(JSON.parse(${JSON.stringify(left)}))`)
}

/** A field names its type in full, or from anywhere above it on. */
const namesOf = (path) => path.split('.').map((_, from, words) => words.slice(from).join('.'))

function remove(messages, [name, ...inside]) {
  if (messages[name] === undefined) throw new Error(`Temporal's table has no ${name}`)
  if (inside.length === 0) delete messages[name]
  else remove(messages[name].nested, inside)
}

const beyondAscii = /[\u0080-\uffff]/g
const slashed = (path) => path.split(sep).join('/')

/** A module of ours that asks where it is hears where it was. */
function ownModule(path) {
  const place = JSON.stringify(`./${slashed(relative(dist, path))}`)
  return readFileSync(path, 'utf8').replaceAll('import.meta.url', `new URL(${place}, bundle_.url).href`)
}

function packageModule(path, without) {
  const name = slashed(relative(packages, path))
  if (replaced.has(name)) return replaced.get(name)
  const text = readFileSync(path, 'utf8')
  if (name === table) return asJson(text, without)
  const [from, to] = moved.get(name) ?? []
  if (from !== undefined && text.includes(from)) return text.replaceAll(from, to)
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '')
  const asks = from !== undefined || /\b(__dirname|__filename|require\.resolve)\b/.test(code)
  if (asks && !unused.includes(name)) throw new Error(`${name} finds files beside itself: bin/bundle-programs.mjs must say where they are`)
  return text
}

const places = (without) => ({
  name: 'places',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.[mc]?js$/ }, ({ path }) => ({
      contents: path.startsWith(packages) ? packageModule(path, without) : ownModule(path),
      loader: 'js',
    })),
})

const options = {
  outdir: dist,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  external: ['pg-native'],
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'linked',
  banner: { js: banner },
  logLevel: 'warning',
  logOverride: { 'require-resolve-not-external': 'silent' }, // `packageModule` knows them
}

/** A program is read as ASCII, in half the time and memory: esbuild writes code so, but leaves comments and regular expressions as they are. */
async function inAscii(path) {
  const text = readFileSync(path, 'utf8')
  const { code } = await transform(text, { minifyWhitespace: true, legalComments: 'none' })
  if (beyondAscii.test(code)) throw new Error(`${path} is read as ASCII, and has code that is not`)
  writeFileSync(path, text.replaceAll(beyondAscii, '?'))
}

/** Each program is evaluated only if it is asked for. */
const entry = programs.map((program) => `get ${JSON.stringify(program)}() { return require('./${program}') },`).join('\n')
await build({
  ...options,
  stdin: { contents: `module.exports = {\n${entry}\n}`, resolveDir: dist, sourcefile: 'all-programs.cjs', loader: 'js' },
  entryNames: 'programs',
  plugins: [places(unspoken)],
})
await build({
  ...options,
  entryPoints: { 'workflow-program': join(packages, thread) },
  plugins: [places([...unspoken, ...outside])],
})
copyFileSync(join(packages, 'source-map', 'lib', 'mappings.wasm'), join(dist, 'mappings.wasm'))
for (const name of ['programs.cjs', 'workflow-program.cjs']) await inAscii(join(dist, name))

const compiled = join(dist, 'compiled.cjs')
writeFileSync(join(dist, 'workflow-thread.cjs'), `require('./compiled.cjs').load('workflow-program.cjs')\n`)
await new Promise((resolve, reject) => {
  const code = `require(${JSON.stringify(compiled)}).compile('workflow-program.cjs', ${JSON.stringify(home)}); process.exit()`
  new Worker(code, { eval: true }).once('error', reject).once('exit', resolve)
})
createRequire(import.meta.url)(compiled).compile('programs.cjs', home, (all) => {
  for (const program of programs) {
    const path = slashed(relative(dirname(join(dist, program)), compiled))
    const names = Object.keys(all[program]).join(', ')
    writeFileSync(
      join(dist, program),
      `import compiled from './${path}'\n\nexport const { ${names} } = compiled.load('programs.cjs')[${JSON.stringify(program)}]\n`,
    )
    rmSync(join(dist, `${program}.map`))
  }
})
