/**
 * A prepared statement on its way through `pg`, with less around it than the query of its own: the columns of an answer are described once for each
 * connection, not with every answer, and rows are made without it looking each of them up again.
 *
 * Q1  What was described stays true: Postgres fails a prepared statement whose columns have changed since, and a connection forgets all with its end.
 * Q2  An answer in binary is described each time: by that it is read (wire-bytes.ts B1).
 */
import pg from 'pg'
import type { Statement } from './connection.js'
import { valueParser } from './wire-bytes.js'

type Row = Record<string, unknown>

export interface Answer {
  readonly rows: readonly Readonly<Row>[]
  /** Rows that were answered or changed. */
  readonly count: number
}

interface Column {
  readonly name: string
  readonly parse: (text: string) => unknown
}

/** The columns of an answer. */
interface Described {
  readonly columns: readonly Column[]
  /** What a row has before its values: all of one shape. */
  readonly empty: Readonly<Row>
}

/** What the types of `pg` do not tell. */
interface Connection {
  describe(portal: object): void
}
interface Description {
  readonly fields: readonly { readonly name: string; readonly dataTypeID: number; readonly format: 'text' | 'binary' | 'value' }[]
}
type Prepare = (this: pg.Query, connection: Connection) => void

const int8 = 20
const parserOf = ({ dataTypeID, format }: Description['fields'][number]): ((text: string) => unknown) => {
  if (format === 'value') return valueParser(dataTypeID) as (value: unknown) => unknown
  return dataTypeID === int8 ? Number : pg.types.getTypeParser(dataTypeID, 'text')
}

const prepare = (pg.Query.prototype as unknown as { readonly prepare: Prepare }).prepare

/** By connection, and there by the name of the statement. */
const described = new WeakMap<Connection, { readonly quiet: Connection; readonly statements: Map<string, Described> }>()

function known(connection: Connection) {
  const found = described.get(connection)
  if (found !== undefined) return found
  const quiet = Object.create(connection, { describe: { value: () => undefined } }) as Connection
  const made = { quiet, statements: new Map<string, Described>() }
  described.set(connection, made)
  return made
}

export class PreparedQuery extends pg.Query {
  readonly answer: Promise<Answer>
  readonly #name: string
  readonly #isBinary: boolean
  readonly #rows: Row[] = []
  #statements: Map<string, Described> | undefined
  #described: Described | undefined
  #count = 0
  #failure: unknown

  constructor({ name, text, values }: Statement, { binary = false }: { readonly binary?: boolean } = {}) {
    super(text)
    this.#name = name
    this.#isBinary = binary
    this.answer = new Promise((resolve, reject) => {
      const callback = (failure: unknown) => (failure ? reject(failure) : resolve({ rows: this.#rows, count: this.#count }))
      Object.assign(this, { name, values, binary, callback })
    })
  }

  prepare(connection: Connection): void {
    const { quiet, statements } = known(connection)
    this.#statements = statements
    this.#described = this.#isBinary ? undefined : statements.get(this.#name)
    prepare.call(this, this.#described === undefined ? connection : quiet)
  }

  handleRowDescription({ fields }: Description): void {
    const columns = fields.map((field) => ({ name: field.name, parse: parserOf(field) }))
    this.#described = { columns, empty: Object.fromEntries(columns.map(({ name }) => [name, null])) }
    if (!this.#isBinary) this.#statements?.set(this.#name, this.#described)
  }

  handleDataRow({ fields }: { readonly fields: readonly (string | null)[] }): void {
    if (this.#failure !== undefined) return
    const { columns, empty } = this.#described as Described // it comes before its rows
    const row = { ...empty }
    try {
      for (const [at, { name, parse }] of columns.entries()) {
        const text = fields[at] as string | null // a field for each column
        if (text !== null) row[name] = parse(text)
      }
    } catch (failure) {
      this.#failure = failure
    }
    this.#rows.push(row)
  }

  /** `text`: "SELECT 3", "INSERT 0 3", "COMMIT". */
  handleCommandComplete({ text }: { readonly text: string }): void {
    this.#count = Number(text.slice(text.lastIndexOf(' ') + 1)) || 0
  }

  handleReadyForQuery(): void {
    const { callback } = this as unknown as { readonly callback: (failure: unknown) => void }
    callback(this.#failure)
  }
}
