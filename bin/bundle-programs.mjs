/**
 * Bundles the programs of `<dist>` in place: a start then reads a handful of files instead of some 1,400, which was a third of what it cost.
 * Names and exports of the programs stay; the modules that they were made of stay beside them, for `npm start` and whoever imports one.
 */
import { copyFileSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const packages = fileURLToPath(new URL('../node_modules/', import.meta.url))
const dist = process.argv[2]

/** Bundled together: what `dev/libraries` exports is what the others run. */
const programs = ['server.js', 'worker.js', 'dev/libraries.js']

/** The thread that runs workflows loads its own code. */
const thread = '@temporalio/worker/lib/workflow/workflow-worker-thread.js'

/** What packages find beside themselves, and where their copy in the bundle finds it. */
const moved = new Map([
  [
    '@temporalio/core-bridge/common.js',
    ['__dirname', `bundle_.folderOf('@temporalio/core-bridge/package.json', '@temporalio/worker')`], // native: stays in its package
  ],
  [
    '@temporalio/worker/lib/workflow/threaded-vm.js',
    [`require.resolve('./workflow-worker-thread')`, `bundle_.beside('workflow-thread.js')`],
  ],
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

const banner = `import { createRequire as createRequire_ } from 'node:module'
import { dirname as dirname_ } from 'node:path'
import { fileURLToPath as fileURLToPath_ } from 'node:url'
const require = createRequire_(import.meta.url)
const bundle_ = {
  beside: (name) => fileURLToPath_(new URL(name, import.meta.url)),
  packageFile: (name) => require.resolve(name),
  folderOf: (name, owner) => dirname_(createRequire_(require.resolve(owner)).resolve(name)),
}`

/** The table of Temporal's messages, 1.4 MB of literal in every thread: V8 reads JSON text in a third of the time. */
const table = '@temporalio/proto/protos/json-module.js'
const asJson = (text) =>
  text.replace(/\.addJSON\((\{[\s\S]*\})\)/, (_, literal) => `.addJSON(JSON.parse(${JSON.stringify(JSON.stringify(JSON.parse(literal)))}))`)

const slashed = (path) => path.split(sep).join('/')

/** A module of ours that asks where it is hears where it was. */
function ownModule(path) {
  const place = JSON.stringify(`./${slashed(relative(dist, path))}`)
  return readFileSync(path, 'utf8').replaceAll('import.meta.url', `new URL(${place}, import.meta.url).href`)
}

function packageModule(path) {
  const name = slashed(relative(packages, path))
  if (replaced.has(name)) return replaced.get(name)
  const text = readFileSync(path, 'utf8')
  if (name === table) return asJson(text)
  const [from, to] = moved.get(name) ?? []
  if (from !== undefined && text.includes(from)) return text.replaceAll(from, to)
  const code = text.replaceAll(/\/\*[\s\S]*?\*\//g, '')
  const asks = from !== undefined || /\b(__dirname|__filename|require\.resolve)\b/.test(code)
  if (asks && !unused.includes(name)) throw new Error(`${name} finds files beside itself: bin/bundle-programs.mjs must say where they are`)
  return text
}

const places = {
  name: 'places',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\.[mc]?js$/ }, ({ path }) => ({
      contents: path.startsWith(packages) ? packageModule(path) : ownModule(path),
      loader: 'js',
    })),
}

const options = {
  outdir: dist,
  allowOverwrite: true,
  bundle: true,
  platform: 'node',
  target: 'node20',
  format: 'esm',
  external: ['pg-native'],
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'linked',
  banner: { js: banner },
  plugins: [places],
  logLevel: 'warning',
}
await build({
  ...options,
  entryPoints: programs.map((program) => join(dist, program)),
  outbase: dist,
  splitting: true,
  chunkNames: 'programs-[hash]',
})
await build({ ...options, entryPoints: { 'workflow-thread': join(packages, thread) } })
copyFileSync(join(packages, 'source-map', 'lib', 'mappings.wasm'), join(dist, 'mappings.wasm'))
