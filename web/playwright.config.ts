import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';

// The browser of the distribution: Playwright's own is not needed.
const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const found = process.env.CENTRIPETAL_CHROMIUM ?? browsers.find((path) => existsSync(path));
if (!found) {
  throw new Error('No Chromium: install it (Debian, Ubuntu: apt-get install chromium) or name it in CENTRIPETAL_CHROMIUM.');
}

export default defineConfig({
  testDir: 'tests',
  testMatch: '**/*.spec.ts',
  outputDir: 'test-results',
  // Each test has a GPU process that computes on the CPU.
  workers: 1,
  timeout: 300_000,
  reporter: 'list',
  forbidOnly: Boolean(process.env.CI),
  use: {
    launchOptions: {
      executablePath: found,
      args: [
        ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        // SwiftShader as adapter, where there is no GPU; all four are needed together.
        '--enable-unsafe-webgpu',
        '--use-angle=swiftshader',
        '--enable-features=Vulkan',
        '--use-vulkan=swiftshader',
      ],
    },
  },
});
