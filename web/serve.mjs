// Serves dist on this machine alone: node serve.mjs [PORT [SUB-PATH]]. Prints the address; a taken port gives way to a free one.
import { createServer } from 'node:http';
import { createReadStream, statSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';

const dist = new URL('dist/', import.meta.url).pathname;
const types = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.wasm': 'application/wasm',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.json': 'application/json',
  '.gz': 'application/gzip',
};

/** A server of the folder `root` at `port` (0: any), below the path `base`. */
export function serve(port, base = '/', root = dist) {
  const server = createServer((request, response) => {
    let path;
    try {
      path = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    } catch {
      return response.writeHead(400).end('no address');
    }
    if (!path.startsWith(base)) return response.writeHead(404).end('not here');
    let file = join(root, normalize('/' + path.slice(base.length)));
    try {
      if (statSync(file).isDirectory()) file = join(file, 'index.html');
      const size = statSync(file).size;
      const type = types[extname(file)] ?? 'application/octet-stream';
      response.writeHead(200, { 'content-type': type, 'content-length': size, 'cache-control': 'no-cache' });
      createReadStream(file).pipe(response);
    } catch {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('not found');
    }
  });
  return new Promise((resolve, reject) => {
    server.once('error', (error) =>
      error.code === 'EADDRINUSE' && port !== 0 ? serve(0, base, root).then(resolve, reject) : reject(error),
    );
    server.listen(port, '127.0.0.1', () => resolve({ server, url: `http://localhost:${server.address().port}${base}` }));
  });
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { url } = await serve(Number(process.argv[2] ?? 8080), process.argv[3] ?? '/');
  console.log(`Centripetal is at ${url} (Ctrl-C ends it)`);
}
