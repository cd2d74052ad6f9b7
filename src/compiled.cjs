/**
 * Runs a bundled program of `dist/` without compiling it: the build leaves, beside the program, what V8 made of it.
 *
 * C1  A program is evaluated once per thread, whoever asks for it by whatever way.
 * C2  What V8 made is used by the same V8 on the same processor only; it is missing or refused elsewhere, and the program is compiled as ever.
 */
const { readFileSync, writeFileSync } = require('node:fs')
const { createRequire, wrap } = require('node:module')
const { join } = require('node:path')
const vm = require('node:vm')

const loaded = new Map()

const compiledBy = (file) => `${file}.${process.versions.v8}-${process.arch}`

function compiledOf(file) {
  try {
    return readFileSync(compiledBy(file))
  } catch {
    return undefined // C2
  }
}

/** Read as ASCII, which the build promises (bin/bundle-programs.mjs): half the time and half the memory of UTF-8. */
function scriptOf(file, options) {
  return new vm.Script(wrap(readFileSync(file, 'latin1')), { filename: file, ...options })
}

function evaluate(script, file) {
  const module = { exports: {} }
  script.runInThisContext().call(module.exports, module.exports, createRequire(file), module, file, __dirname)
  return module.exports
}

/** What the program `name` exports. */
exports.load = (name) => {
  const file = join(__dirname, name)
  // Node maps positions to sources in modules that it has loaded itself only.
  if (!loaded.has(file))
    loaded.set(file, process.sourceMapsEnabled ? require(file) : evaluate(scriptOf(file, { cachedData: compiledOf(file) }), file)) // C1
  return loaded.get(file)
}

/** For the build: evaluates the program, lets `use` touch what every start touches, and keeps what V8 made of all that. Stacks will say that it is in `home`. */
exports.compile = (name, home, use = () => undefined) => {
  const file = join(__dirname, name)
  const script = scriptOf(file, { filename: join(home, name) })
  use(evaluate(script, file))
  writeFileSync(compiledBy(file), script.createCachedData())
}
