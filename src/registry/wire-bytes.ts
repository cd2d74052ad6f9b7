/**
 * Bytes on the connection, in binary both ways. As text they come as hexadecimal: twice as many to make, carry and undo; a MiB took three times the work.
 *
 * B1  Postgres says with each answer how its columns travel. `pg` can ask for binary but reads every column as UTF-8, which no bytes survive: the rows
 *     of such an answer are read here, column by column as their types say, and `pg` passes the values on.
 * B2  A type that nobody has read in binary so far fails its statement, and nothing else.
 * B3  An answer larger than what the socket gives at once is gathered in one piece of memory of its size; values are copies, which hold none of it.
 * B4  Large bytes leave as the buffer that they are: nobody writes to it until its statement was answered, or its transaction can only fail.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { serialize } from 'pg-protocol'
import { Parser } from 'pg-protocol/dist/parser.js'

/** What the types of `pg` and its parser do not tell. */
interface RowParser {
  buffer: Buffer
  bufferLength: number
  bufferOffset: number
  mergeBuffer(more: Buffer): void
  handlePacket(start: number, code: number, length: number, bytes: Buffer): Message
  parse(bytes: Buffer, take: (message: Message) => void): void
}
interface Column {
  readonly dataTypeID: number
  format: 'text' | 'binary' | 'value'
}
interface Message {
  readonly name: string
  readonly fields?: readonly unknown[]
}
interface Binding {
  readonly values?: readonly unknown[]
}
interface Connection {
  readonly stream: NodeJS.WritableStream & { readonly writable: boolean }
  attachListeners(stream: NodeJS.ReadableStream): void
  bind(binding: Binding): void
  emit(name: string, message: Message): void
}

/** A client of the pool. */
export class Client extends pg.Client {
  constructor(config?: string | pg.ClientConfig) {
    super(config)
    const { connection } = this as unknown as { readonly connection: Connection }
    connection.attachListeners = (stream) => {
      const parser = rowParser()
      const take = (message: Message) => connection.emit(message.name === 'error' ? 'errorMessage' : message.name, message)
      stream.on('data', (bytes: Buffer) => parser.parse(bytes, take))
    }
    const bind = connection.bind.bind(connection)
    connection.bind = (binding) => {
      const large = binding.values?.findIndex(isLarge) ?? -1
      if (large < 0) bind(binding)
      else if (connection.stream.writable) for (const piece of boundAround(binding, large)) connection.stream.write(piece)
    }
  }
}

const largeBytes = 16_384
const isLarge = (value: unknown): value is Buffer => value instanceof Buffer && value.length >= largeBytes

const placeholder = randomBytes(16)

/** B4. The message that binds, in three pieces: the writer of `pg` copies each value, and often what it has written once more. */
function boundAround(binding: Binding, large: number): readonly Buffer[] {
  const value = binding.values?.[large] as Buffer
  const values = binding.values?.map((other, index) => (index === large ? placeholder : other)) as unknown[]
  const message = serialize.bind({ ...binding, values }) as Buffer
  const at = message.indexOf(placeholder)
  const added = value.length - placeholder.length
  message.writeInt32BE(message.readInt32BE(1) + added, 1)
  message.writeInt32BE(value.length, at - 4)
  return [message.subarray(0, at), value, message.subarray(at + placeholder.length)]
}

type Read = (bytes: Buffer, from: number, to: number) => unknown

/** By the number of the type. */
const reads: Readonly<Record<number, Read>> = {
  16: (bytes, from) => bytes[from] === 1, // boolean
  17: (bytes, from, to) => Buffer.from(bytes.subarray(from, to)), // bytea
  20: (bytes, from) => bytes.readInt32BE(from) * 2 ** 32 + bytes.readUInt32BE(from + 4), // int8
  23: (bytes, from) => bytes.readInt32BE(from), // int4
  25: (bytes, from, to) => bytes.toString('utf8', from, to), // text
}

/** What `pg` makes of a value that was read here. B2. */
export function valueParser(type: number): (value: unknown) => unknown {
  if (reads[type] !== undefined) return (value) => value
  return () => {
    throw new Error(`columns of type ${type} are not read in binary`)
  }
}

const headerBytes = 5
const dataRow = 'D'.charCodeAt(0)
const bindComplete = '2'.charCodeAt(0)

function rowParser(): RowParser {
  const parser = new Parser() as unknown as RowParser
  const handlePacket = parser.handlePacket.bind(parser)
  const mergeBuffer = parser.mergeBuffer.bind(parser)
  let binary: readonly Read[] | null = null
  parser.handlePacket = (start, code, length, bytes) => {
    if (code === bindComplete) binary = null // an answer that is not described is text (prepared-query.ts Q2)
    if (binary !== null && code === dataRow) return rowOf(binary, start, length, bytes) // B1
    const message = handlePacket(start, code, length, bytes)
    if (message.name === 'rowDescription') binary = readsOf(message.fields as readonly Column[])
    return message
  }
  parser.mergeBuffer = (more) => {
    makeRoom(parser, more.length)
    mergeBuffer(more)
  }
  return parser
}

/** Null where the columns travel as text: a statement has one format for all. */
function readsOf(columns: readonly Column[]): readonly Read[] | null {
  if (columns[0]?.format !== 'binary') return null
  return columns.map((column) => {
    column.format = 'value' // as the parsers of prepared-query.ts hear it
    return reads[column.dataTypeID] ?? (() => undefined) // B2
  })
}

function rowOf(columns: readonly Read[], start: number, length: number, bytes: Buffer): Message {
  let at = start + 2 // their number
  const fields = columns.map((read) => {
    const from = at + 4
    const size = bytes.readInt32BE(at)
    at = from + Math.max(size, 0)
    return size < 0 ? null : read(bytes, from, at)
  })
  return { name: 'dataRow', length, fieldCount: fields.length, fields } as Message
}

/** B3: by itself the parser doubles its memory again and again, and copies each time. */
function makeRoom(parser: RowParser, more: number): void {
  const { buffer, bufferLength, bufferOffset } = parser
  if (bufferLength < headerBytes || bufferOffset + bufferLength + more <= buffer.length) return
  const message = 1 + buffer.readUInt32BE(bufferOffset + 1)
  if (message <= bufferLength + more) return
  const room = Buffer.allocUnsafe(message + more) // what follows it may come with its last piece
  buffer.copy(room, 0, bufferOffset, bufferOffset + bufferLength)
  parser.buffer = room
  parser.bufferOffset = 0
}
