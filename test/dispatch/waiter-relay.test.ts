/** Signals that waiting workflows are owed (waiter-relay.ts), against a real database; Temporal is played. */
import { WorkflowNotFoundError } from '@temporalio/client'
import { WaiterRelay } from '../../src/dispatch/waiter-relay.js'
import { sql } from '../../src/registry/database.js'
import { eventually } from '../support/eventually.js'
import { type FreshDatabase, freshDatabase } from '../support/postgres.js'

let fresh: FreshDatabase
beforeAll(async () => {
  fresh = await freshDatabase()
})
afterAll(async () => await fresh.drop())

it('a workflow that cannot be told holds up none of the others, and is told when it can be (R4)', async () => {
  for (const workflow of ['deaf', 'over', 'waiting', 'waiting'])
    await fresh.database.query(sql`INSERT INTO waiter_signals (tenant_id, workflow_id) VALUES ('default', ${workflow})`)
  const owed = async () =>
    (await fresh.database.query(sql`SELECT workflow_id FROM waiter_signals ORDER BY id`)).rows.map((row) => row.workflow_id)
  const told: string[] = []
  const failures: unknown[] = []
  let isDeaf = true
  const relay = new WaiterRelay({
    database: fresh.database,
    signal: async (workflowId) => {
      if (workflowId === 'over') throw new WorkflowNotFoundError('it is over', workflowId, undefined)
      if (workflowId === 'deaf' && isDeaf) throw new Error('too many signals')
      told.push(workflowId)
    },
    onFailure: (failure) => failures.push(failure),
  })

  await eventually(async () => (await owed()).length === 1)
  expect([await owed(), told]).toEqual([['deaf'], ['waiting']]) // R2, R3
  expect(failures[0]).toEqual(new Error('too many signals'))
  isDeaf = false
  await eventually(async () => (await owed()).length === 0)

  expect(told).toEqual(['waiting', 'deaf'])
  await relay.close()
})
