/** `npm test [-- jest arguments]`: everything that is missing, then the whole suite against parts that it starts itself. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { readyOrExit } from './ready.mjs'

await readyOrExit()
const root = fileURLToPath(new URL('../', import.meta.url))
const jest = fileURLToPath(new URL('../node_modules/jest/bin/jest.js', import.meta.url))
const child = spawn(process.execPath, ['--experimental-vm-modules', '--no-warnings', jest, ...process.argv.slice(2)], {
  cwd: root,
  stdio: 'inherit',
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('exit', (code) => process.exit(code ?? 1))
