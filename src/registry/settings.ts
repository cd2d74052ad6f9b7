/** What every process of a deployment must know alike. */
import { type Queryable, sql } from './database.js'

export type SettingName = 'public-url'

export async function writeSetting(queryable: Queryable, name: SettingName, value: string): Promise<void> {
  await queryable.query(sql`
    INSERT INTO settings (tenant_id, name, value) VALUES (${queryable.tenant}, ${name}, ${value})
        ON CONFLICT (tenant_id, name) DO UPDATE SET value = excluded.value`)
}

export async function readSetting(queryable: Queryable, name: SettingName): Promise<string | null> {
  const { rows } = await queryable.query(sql`SELECT value FROM settings WHERE tenant_id = ${queryable.tenant} AND name = ${name}`)
  return (rows[0]?.value as string | undefined) ?? null
}
