import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { defineConfig } from 'vite';

const page = (name: string) => resolve(import.meta.dirname, name);

export default defineConfig({
  // Relative addresses: the page works from any sub-path.
  base: './',
  worker: { format: 'es' },
  build: {
    target: 'es2022',
    // A module or style inside the HTML would not be allowed by the page's own policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: ['index.html', 'selftest.html'].map(page).filter((path) => existsSync(path)) },
  },
});
