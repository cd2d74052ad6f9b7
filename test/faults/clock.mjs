/** Preloaded into a server: its clock goes wrong by CLOCK_SHIFT_MS, as that of a machine may. Timers and monotonic clocks go on as they do. */
const shiftMs = Number(process.env.CLOCK_SHIFT_MS ?? '0')
const RealDate = Date
const now = () => RealDate.now() + shiftMs

globalThis.Date = class extends RealDate {
  constructor(...given) {
    if (given.length === 0) super(now())
    else super(...given)
  }

  static now() {
    return now()
  }
}
