import { defineConfig } from 'vitest/config';

// One browser at a time: the machine may have two cores.
export default defineConfig({
  test: { include: ['e2e/**/*.spec.ts'], testTimeout: 120_000, hookTimeout: 60_000, fileParallelism: false },
});
