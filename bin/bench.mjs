/** `npm run bench [-- --quick] [--only spawn,send]`: everything that is missing, then the measurements on parts of their own. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { readyOrExit } from './ready.mjs'

await readyOrExit()
const root = fileURLToPath(new URL('../', import.meta.url))
const child = spawn(process.execPath, ['--import', 'tsx', 'bench/main.ts', ...process.argv.slice(2)], { cwd: root, stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal))
child.once('exit', (code) => process.exit(code ?? 1))
