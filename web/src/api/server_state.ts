// SPDX-License-Identifier: Apache-2.0
// What the page knows of the server: its models, its defaults, and whether it answers.
import { computed, signal } from '@preact/signals';
import { ApiError, fetchModels, fetchProps } from './client';
import type { ModelEntry, ServerProps } from './types';

const kLoadingPollMs = 2000;

export const models = signal<ModelEntry[]>([]);
export const props = signal<ServerProps>({});
export const serverError = signal<ApiError | null>(null);

export const defaultModel = computed(
  () =>
    models.value.find(({ id }) => id === props.value.default_model)?.id ??
    (models.value.find(({ puna }) => puna?.state === 'loaded') ?? models.value[0])?.id ??
    '',
);

export const modelEntry = (id: string) => models.value.find((model) => model.id === id);

let poll = 0;

export async function refreshServer(): Promise<void> {
  clearTimeout(poll);
  try {
    const [found, known] = await Promise.all([fetchModels(), fetchProps().catch(() => props.value)]);
    models.value = found;
    props.value = known;
    serverError.value = null;
    if (found.some(({ puna }) => puna?.state === 'loading')) poll = window.setTimeout(refreshServer, kLoadingPollMs);
  } catch (cause) {
    serverError.value = cause instanceof ApiError ? cause : new ApiError(String(cause), 0);
  }
}
