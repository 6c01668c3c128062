import type { Server } from 'node:http';

/** A server of the folder `root` at `port` (0: any), below the path `base`. */
export function serve(port: number, base?: string, root?: string): Promise<{ server: Server; url: string }>;
