// SPDX-License-Identifier: Apache-2.0
// Requests to the server the page came from, with the API key where there is one. What goes wrong is thrown as ApiError.
import { signal } from '@preact/signals';
import type { MetricsRow, ModelEntry, RunEntry, ServerProps, Vote } from './types';

const kKeyName = 'puna.key';

export const apiKey = signal(localStorage.getItem(kKeyName) ?? sessionStorage.getItem(kKeyName) ?? '');
/** True while the server has refused for want of a key: the page asks for one. */
export const keyWanted = signal(false);

export function setApiKey(key: string, remember: boolean) {
  apiKey.value = key;
  localStorage.removeItem(kKeyName);
  sessionStorage.removeItem(kKeyName);
  if (key) (remember ? localStorage : sessionStorage).setItem(kKeyName, key);
}

export const keyIsRemembered = () => localStorage.getItem(kKeyName) !== null;

/** status 0: no answer came (the server is not there, or the connection broke). */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code = '',
    readonly retryAfter = 0,
  ) {
    super(message);
  }
}

async function errorOf(response: Response): Promise<ApiError> {
  const wait = Number(response.headers.get('Retry-After')) || 0;
  try {
    const { error } = await response.json();
    if (typeof error?.message === 'string')
      return new ApiError(error.message, response.status, String(error.code ?? error.type ?? ''), wait);
  } catch {
    // Not the server's own JSON: say the status instead.
  }
  return new ApiError(`${response.status} ${response.statusText}`.trim(), response.status, '', wait);
}

export async function request(path: string, options: RequestInit = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  if (apiKey.value) headers.set('Authorization', `Bearer ${apiKey.value}`);
  if (options.body) headers.set('Content-Type', 'application/json');
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, credentials: 'same-origin' });
  } catch (cause) {
    if (cause instanceof DOMException && cause.name === 'AbortError') throw cause;
    throw new ApiError(cause instanceof Error ? cause.message : String(cause), 0);
  }
  if (response.ok) return response;
  if (response.status === 401) keyWanted.value = true;
  throw await errorOf(response);
}

const json = async (path: string) => (await request(path)).json();
const list = <T>(value: unknown): T[] => (Array.isArray(value) ? value : []);

export const fetchModels = async () => list<ModelEntry>((await json('/v1/models')).data);
export const fetchProps = async () => (await json('/puna/props')) as ServerProps;
export const fetchRuns = async () => list<RunEntry>((await json('/puna/runs')).runs);
export const fetchVotes = async () => list<Vote>((await json('/puna/votes')).votes);
export const postVote = (vote: Vote) => request('/puna/votes', { method: 'POST', body: JSON.stringify(vote) });
export const fetchRecipe = async (run: string) => (await request(`/puna/runs/${encodeURIComponent(run)}/recipe`)).text();

export async function fetchMetrics(run: string, after: number): Promise<{ rows: MetricsRow[]; next: number }> {
  const { rows, next } = await json(`/puna/runs/${encodeURIComponent(run)}/metrics?after=${after}`);
  const found = list<MetricsRow>(rows);
  return { rows: found, next: typeof next === 'number' ? next : after + found.length };
}
