import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { defineConfig } from 'vite';
import { frame } from './frame/frame.ts';

const folder = import.meta.dirname;

// A build of its own, so that no part of the lessons is in what a visitor of the demo loads.
export default defineConfig({
  root: folder,
  base: './',
  publicDir: false,
  worker: { format: 'es' },
  plugins: [frame()],
  build: {
    outDir: resolve(folder, '../dist/lessons'),
    emptyOutDir: true,
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: false,
    chunkSizeWarningLimit: 2000,
    rolldownOptions: {
      input: readdirSync(folder).filter((name) => name.endsWith('.html')).map((name) => resolve(folder, name)),
    },
  },
});
