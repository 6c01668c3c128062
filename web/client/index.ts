export * from './session.ts';
export * from './types.ts';
