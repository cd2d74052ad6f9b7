import { Metrics } from '../src/metrics.js'

describe('the metrics while Postgres does not answer', () => {
  it('are there, but for those that are read from it', async () => {
    const metrics = new Metrics()
    let answers = true
    metrics.readBacklogFrom(async () => {
      if (!answers) throw new Error('no Postgres')
      return { appendIntents: 1, attachmentClaims: 2, wakes: { waiting: 3, failing: 4, claimed: 5 }, deadLetters: 6 }
    })
    const ofRegistry = /^agents_(wakes|dead_letters|append_intents|attachment_claims)\b/
    const shown = async () => (await metrics.text()).split('\n').filter((line) => line.startsWith('agents_'))
    const all = ['agents_wakes{state="waiting"} 3', 'agents_dead_letters 6', 'agents_append_intents 1', 'agents_attachment_claims 2']

    expect(await shown()).toEqual(expect.arrayContaining(all))
    answers = false
    expect(await shown()).toContain('agents_workflow_service_up 1')
    expect((await shown()).filter((line) => ofRegistry.test(line))).toEqual([])
    answers = true
    expect(await shown()).toEqual(expect.arrayContaining(all))
  })
})
