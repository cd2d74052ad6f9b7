/**
 * `npm run verify`: format, lint, types, walls, build, npm test. All of them run, whatever fails; the last line counts.
 * A step that fails, and a test file that could not run, count as failed too: the numbers never look better than the exit code.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readyOrExit } from './ready.mjs'

const root = fileURLToPath(new URL('../', import.meta.url))
const tool = (name) => join(root, 'node_modules', ...name.split('/'))
const biome = tool('@biomejs/biome/bin/biome')
const folder = mkdtempSync(join(tmpdir(), 'agents-verify-'))
const results = join(folder, 'jest.json')

await readyOrExit()
const steps = [
  ['format', [biome, 'format', '.']],
  ['lint', [biome, 'lint', '--error-on-warnings', '.']],
  ['types', [tool('typescript/bin/tsc'), '--noEmit']],
  ['walls', ['bin/test.mjs', 'test/walls.test.ts']],
  ['build', ['bin/build.mjs']],
  ['npm test', ['bin/test.mjs', '--json', `--outputFile=${results}`]],
]
const failed = []
for (const [name, args] of steps) {
  process.stdout.write(`\n== ${name}\n`)
  if ((await run(args)) !== 0) failed.push(name)
}
const counts = count()
rmSync(folder, { recursive: true, force: true })
const brokenSteps = failed.filter((name) => name !== 'npm test' || counts.failed === 0)
if (failed.length > 0) process.stdout.write(`\nfailed steps: ${failed.join(', ')}\n`)
const skipped = counts.skipped === 0 ? '' : `, ${counts.skipped} skipped`
process.stdout.write(`\n${counts.passed} passed, ${counts.failed + brokenSteps.length} failed${skipped}\n`)
process.exitCode = failed.length === 0 ? 0 : 1

async function run(args) {
  return await new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', () => resolve(1))
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

function count() {
  try {
    const result = JSON.parse(readFileSync(results, 'utf8'))
    const suites = result.testResults.filter(({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0).length
    return { passed: result.numPassedTests, failed: result.numFailedTests + suites, skipped: result.numPendingTests + result.numTodoTests }
  } catch {
    return { passed: 0, failed: 0, skipped: 0 } // the failed step counts
  }
}
