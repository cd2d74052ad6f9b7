/** Undo steps of a workflow: registered before the step that may need them, run in reverse order, even after a cancellation. */
import { CancellationScope } from '@temporalio/workflow'

export class Compensations {
  readonly #undo: (() => Promise<void>)[] = []

  add(undo: () => Promise<void>): void {
    this.#undo.unshift(undo)
  }

  async run(): Promise<void> {
    await CancellationScope.nonCancellable(async () => {
      for (const undo of this.#undo) await undo()
    })
  }
}
