// SPDX-License-Identifier: Apache-2.0
// One streamed answer of /v1/chat/completions, gathered from its chunks.
import { ApiError, request } from './client';
import { readEvents } from './event_stream';
import type { ChatChunk, ChatRequest, Timings, ToolCall, ToolCallDelta, Usage } from './types';

export interface Answer {
  text: string;
  reasoning: string;
  toolCalls: ToolCall[];
  finish: string;
  usage?: Usage;
  timings?: Timings;
  /** Milliseconds of the page's own clock. */
  firstTokenMs?: number;
  totalMs: number;
  pieces: number;
}

export const emptyAnswer = (): Answer => ({ text: '', reasoning: '', toolCalls: [], finish: '', totalMs: 0, pieces: 0 });

function addToolCall(calls: ToolCall[], delta: ToolCallDelta) {
  const index = delta.index ?? Math.max(0, calls.length - (delta.id ? 0 : 1));
  const call = (calls[index] ??= { id: '', type: 'function', function: { name: '', arguments: '' } });
  if (delta.id) call.id = delta.id;
  if (delta.function?.name) call.function.name += delta.function.name;
  if (delta.function?.arguments) call.function.arguments += delta.function.arguments;
}

/** Adds a chunk to the answer; throws the error that a chunk may carry under HTTP 200. */
export function addChunk(answer: Answer, chunk: ChatChunk, nowMs: number) {
  if (chunk.error) {
    const { message, code, type } = chunk.error;
    throw new ApiError(message ?? 'error', typeof code === 'number' ? code : 200, String(code ?? type ?? ''));
  }
  if (chunk.usage) answer.usage = chunk.usage;
  if (chunk.timings) answer.timings = chunk.timings;
  answer.totalMs = nowMs;
  for (const { delta, finish_reason } of chunk.choices ?? []) {
    if (delta?.content) answer.text += delta.content;
    if (delta?.reasoning_content) answer.reasoning += delta.reasoning_content;
    for (const call of delta?.tool_calls ?? []) addToolCall(answer.toolCalls, call);
    if (delta?.content || delta?.reasoning_content || delta?.tool_calls?.length) {
      answer.firstTokenMs ??= nowMs;
      answer.pieces += 1;
    }
    if (finish_reason) answer.finish = finish_reason;
  }
}

/** Fills `answer` as the stream comes and calls `onChange` after each chunk. A stream that ends without [DONE] was cut. */
export async function streamChat(chat: ChatRequest, answer: Answer, signal: AbortSignal, onChange: () => void): Promise<void> {
  const begun = performance.now();
  const body = JSON.stringify({ ...chat, stream: true, stream_options: { include_usage: true } });
  const response = await request('/v1/chat/completions', { method: 'POST', body, signal });
  if (!response.body) throw new ApiError('empty answer', 0);
  try {
    for await (const event of readEvents(response.body)) {
      if (event === '[DONE]') return;
      addChunk(answer, JSON.parse(event) as ChatChunk, performance.now() - begun);
      onChange();
    }
  } catch (cause) {
    if (cause instanceof ApiError || (cause instanceof DOMException && cause.name === 'AbortError')) throw cause;
    throw new ApiError(cause instanceof Error ? cause.message : String(cause), 0, 'connection_lost');
  }
  throw new ApiError('', 0, 'connection_lost');
}

/** Tokens per second: the server's figure, else the page's own count of pieces. */
export function tokensPerSecond(answer: Answer): number | undefined {
  if (answer.timings?.predicted_per_second) return answer.timings.predicted_per_second;
  const seconds = (answer.totalMs - (answer.firstTokenMs ?? 0)) / 1000;
  const tokens = answer.usage?.completion_tokens ?? answer.pieces;
  return answer.firstTokenMs !== undefined && seconds > 0.05 && tokens > 1 ? (tokens - 1) / seconds : undefined;
}
