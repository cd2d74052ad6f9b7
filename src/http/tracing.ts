/** A span for every request, below the trace that it came with (spec/13 §7). Costs next to nothing while no SDK is installed. */
import { context, propagation, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { tracer } from '../activities/tracing.js'
import { whenOver } from './when-over.js'

const serverErrors = 500

export function tracedRequests(app: FastifyInstance, tenant: string): void {
  const spans = new WeakMap<FastifyRequest, Span>()

  app.addHook('onRequest', (request, _reply, done) => {
    const parent = propagation.extract(context.active(), request.headers)
    const attributes = { 'http.method': request.method, 'electric_agents.tenant_id': tenant }
    const span = tracer().startSpan(`HTTP ${request.method}`, { kind: SpanKind.SERVER, attributes }, parent)
    if (!span.isRecording()) return done()
    spans.set(request, span)
    return context.with(trace.setSpan(parent, span), done) // what the request does from here on is below its span
  })

  whenOver(app, (request, _reply, status) => {
    const span = spans.get(request)
    span?.setAttributes({ 'http.route': request.routeOptions.url ?? '', 'http.status_code': status })
    if (status >= serverErrors) span?.setStatus({ code: SpanStatusCode.ERROR })
    span?.end()
  })
}
