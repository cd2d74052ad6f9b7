/** The libraries that the server and the worker run, for programs preloaded into them: `pg` by its own name would be another copy. */
export { WorkflowClient } from '@temporalio/client'
export { default as pg } from 'pg'
