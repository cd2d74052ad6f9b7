/** What the server must know and nobody else. A secret never changes, so a process reads it once. */
import { randomBytes } from 'node:crypto'
import { z } from 'zod'
import { type Database, sql } from './database.js'

const tokenSecretName = 'tokens'
const secretBytes = 32
const secretRow = z.object({ value: z.instanceof(Buffer).refine((value) => value.length === secretBytes) })

const tokenSecrets = new WeakMap<Database, Promise<Buffer>>()

/** What claim and write tokens of the tenant are derived from: made by whoever comes first, the same for all replicas. */
export async function tokenSecret(database: Database): Promise<Buffer> {
  const known = tokenSecrets.get(database)
  if (known !== undefined) return await known
  const reading = readOrMake(database, tokenSecretName)
  tokenSecrets.set(database, reading)
  reading.catch(() => tokenSecrets.delete(database)) // the next caller tries again
  return await reading
}

async function readOrMake(database: Database, name: string): Promise<Buffer> {
  const found = await read(database, name)
  if (found !== null) return found
  await database.query(sql`
    INSERT INTO secrets (tenant_id, name, value) VALUES (${database.tenant}, ${name}, ${randomBytes(secretBytes)})
        ON CONFLICT DO NOTHING`)
  const made = await read(database, name) // ours, or that of whoever was faster
  if (made === null) throw new Error(`the secret "${name}" was removed while it was made`)
  return made
}

async function read(database: Database, name: string): Promise<Buffer | null> {
  const { rows } = await database.query(sql`SELECT value FROM secrets WHERE tenant_id = ${database.tenant} AND name = ${name}`)
  return rows[0] === undefined ? null : secretRow.parse(rows[0]).value
}
