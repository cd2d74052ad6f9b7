import type { ServerResponse } from 'node:http'

/** Nothing is sent for `ms` although something waits to be. A reader that has taken all there is waits for us, however long. */
export function cutOffWhenStalled(response: ServerResponse, ms: number): void {
  response.setTimeout(ms, () => {
    if (response.writableLength > 0) response.destroy()
  })
}
