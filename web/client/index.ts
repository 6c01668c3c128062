export * from './session.ts';
export type * from './types.ts';
