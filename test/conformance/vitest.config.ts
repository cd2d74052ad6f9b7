import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: { root: import.meta.dirname, include: ['suite.vitest.ts'], testTimeout: 45_000, retry: 0, watch: false },
})
