/**
 * Trace context over process boundaries (spec/13 §7): a request's context travels in the item that its operation carries, so the activity that
 * carries it out, wherever that is, continues the trace. Only the API is used: without an SDK in the process nothing is made and nothing travels.
 */
import { type Attributes, context, propagation, ROOT_CONTEXT, type Span, SpanStatusCode, trace } from '@opentelemetry/api'

/** `traceparent`, `tracestate`. */
export type TraceContext = Readonly<Record<string, string>>

export const tracer = () => trace.getTracer('agent-server')

/** What an item takes along of the active span. */
export function carriedTrace(): { readonly trace?: TraceContext } {
  const carrier: Record<string, string> = {}
  propagation.inject(context.active(), carrier)
  return Object.keys(carrier).length === 0 ? {} : { trace: carrier }
}

export interface Traced {
  readonly trace?: TraceContext
}

/** Runs `work` for a batch, with a span for each item that came with a trace. */
export async function tracedBatch<Item extends Traced, Result>(
  name: string,
  items: readonly Item[],
  attributesOf: (item: Item) => Attributes,
  work: () => Promise<Result>,
): Promise<Result> {
  const spans = items.flatMap((item) => (item.trace === undefined ? [] : [started(name, attributesOf(item), item.trace)]))
  try {
    return await work()
  } catch (failure) {
    for (const span of spans) failed(span, failure)
    throw failure
  } finally {
    for (const span of spans) span.end()
  }
}

const started = (name: string, attributes: Attributes, parent: TraceContext): Span =>
  tracer().startSpan(name, { attributes }, propagation.extract(ROOT_CONTEXT, parent))

function failed(span: Span, failure: unknown): void {
  span.recordException(failure instanceof Error ? failure : String(failure))
  span.setStatus({ code: SpanStatusCode.ERROR })
}
