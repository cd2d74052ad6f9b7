/** Bundles `<dist>/workflows/index.js` into `<dist>/workflows.bundle.js`, so that a worker starts without webpack. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker'

const dist = process.argv[2]
const { code } = await bundleWorkflowCode({ workflowsPath: join(dist, 'workflows', 'index.js'), logger: new DefaultLogger('WARN') })
writeFileSync(join(dist, 'workflows.bundle.js'), code)
