// SPDX-License-Identifier: Apache-2.0
// `vite` serves the sources beside the stand-in server's API; `vite build` writes dist/page.html.gz and dist/page.csp.
/// <reference types="vitest/config" />
import { defineConfig, type Plugin } from 'vite';
import { singlePage } from './build/single_page';

function standIn(): Plugin {
  return {
    name: 'stand-in',
    apply: 'serve',
    async configureServer(server) {
      // @ts-expect-error: plain JavaScript
      const { answerApi } = await import('./dev/stand_in_api.mjs');
      server.middlewares.use((request, response, next) => {
        if (!answerApi(request, response)) next();
      });
    },
  };
}

export default defineConfig({
  plugins: [standIn(), singlePage({ limit: 250 * 1024 })],
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  json: { stringify: false },
  build: {
    target: 'es2022',
    modulePreload: false,
    cssCodeSplit: false,
    assetsInlineLimit: 1 << 20,
    reportCompressedSize: false,
    rollupOptions: { output: { inlineDynamicImports: true } },
  },
  test: { testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false, expect: { poll: { timeout: 15_000 } } },
});
