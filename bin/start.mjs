/** `npm start`: everything that is missing, then the whole server in one process tree. */
import { readyOrExit } from './ready.mjs'

await readyOrExit()
const { runDevelopment } = await import('../dist/dev/main.js')
await runDevelopment()
