// Requests to the console server of this node. Nothing else is ever asked.

import type { Language, Problem } from './types';

/** A request that was not answered with success. `kind` is the server's, or `unreachable`. */
export class Failure extends Error {
  constructor(
    readonly kind: string,
    message: string,
    readonly setup = false,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
}

/** A long action (a switchover's request) answers within seconds; more means that the node is gone. */
const LIMIT_MS = 60_000;

let csrf = '';
let language: Language = 'en';
let signedOut: () => void = () => undefined;

export function setCsrf(value: string): void {
  csrf = value;
}

export function setLanguage(value: Language): void {
  language = value;
}

/** Called when the server says that nobody is logged in (any more). */
export function onSignedOut(callback: () => void): void {
  signedOut = callback;
}

export const base = '/api/v1';

export function headers(): Record<string, string> {
  return { 'Accept-Language': language, Accept: 'application/json' };
}

export async function failureOf(response: Response): Promise<Failure> {
  const body = (await response.json().catch(() => null)) as Problem | null;
  const wait = Number.parseInt(response.headers.get('Retry-After') ?? '', 10);
  return new Failure(
    body?.kind ?? (response.status === 401 ? 'unauthenticated' : 'unreachable'),
    body?.problem ?? `HTTP ${response.status}`,
    body?.setup ?? false,
    Number.isFinite(wait) ? wait : null,
  );
}

async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const sent: RequestInit = {
    method,
    headers: headers(),
    credentials: 'same-origin',
    cache: 'no-store',
    signal: AbortSignal.timeout(LIMIT_MS),
  };
  const given = sent.headers as Record<string, string>;
  if (method !== 'GET') given['X-Hotpair-Csrf'] = csrf;
  if (body !== undefined) {
    given['Content-Type'] = 'application/json';
    sent.body = JSON.stringify(body);
  }
  const response = await fetch(base + path, sent).catch((error: unknown) => {
    throw new Failure('unreachable', error instanceof Error ? error.message : String(error));
  });
  if (!response.ok) {
    const failure = await failureOf(response);
    if (failure.kind === 'unauthenticated' && path !== '/login' && path !== '/me') signedOut();
    throw failure;
  }
  if (response.status === 204) return undefined as T;
  return (await response.json().catch(() => {
    throw new Failure('unreachable', `${path}: the answer is not JSON`);
  })) as T;
}

export const get = <T>(path: string): Promise<T> => request('GET', path);
export const post = <T>(path: string, body: unknown = {}): Promise<T> => request('POST', path, body);
export const put = <T>(path: string, body: unknown): Promise<T> => request('PUT', path, body);
export const remove = <T>(path: string): Promise<T> => request('DELETE', path);

/** One segment of a path. */
export const seg = encodeURIComponent;
