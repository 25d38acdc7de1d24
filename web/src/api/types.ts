// SPDX-License-Identifier: Apache-2.0
// The shapes of the server's answers, as far as the page reads them.

export interface ModelEntry {
  id: string;
  created?: number;
  puna?: { state?: 'loaded' | 'available' | 'loading'; context?: number; parameters?: number; format?: string; bytes?: number };
}

export interface ServerProps {
  version?: string;
  default_model?: string;
  defaults?: { temperature?: number; top_p?: number; top_k?: number; min_p?: number };
  roles?: string[];
  /** Whether the server shows runs and keeps votes; one that does not say so is taken to. */
  runs?: boolean;
  votes?: boolean;
}

export interface ToolCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** A message as the server reads it. */
export interface WireMessage {
  role: 'system' | 'user' | 'assistant' | 'tool';
  content: string | null;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
}

export interface Sampling {
  temperature?: number;
  top_p?: number;
  top_k?: number;
  min_p?: number;
  max_tokens?: number;
  seed?: number;
  stop?: string[];
}

export interface ChatRequest extends Sampling {
  model: string;
  messages: WireMessage[];
  tools?: unknown[];
}

export interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  total_tokens?: number;
}

export interface Timings {
  prompt_n?: number;
  cache_n?: number;
  prompt_ms?: number;
  predicted_n?: number;
  predicted_ms?: number;
  prompt_per_second?: number;
  predicted_per_second?: number;
}

export interface ToolCallDelta {
  index?: number;
  id?: string;
  function?: { name?: string; arguments?: string };
}

export interface ChatChunk {
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null; tool_calls?: ToolCallDelta[] };
    finish_reason?: string | null;
  }[];
  usage?: Usage | null;
  timings?: Timings;
  error?: { message?: string; type?: string; code?: string | number | null };
}

export interface RunEntry {
  name: string;
  objective?: string;
  state?: 'running' | 'finished' | 'stopped';
  step?: number;
  steps?: number;
  updated?: number;
}

/** A line of metrics.jsonl: figures of kind "train" or "held_out", texts of kind "sample" or "fault". */
export interface MetricsRow {
  step: number;
  kind: string;
  name?: string;
  text?: string;
  [figure: string]: number | string | null | undefined;
}

export type Winner = 'a' | 'b' | 'tie' | 'bad';

export interface PreferencePair {
  prompt: WireMessage[];
  chosen: WireMessage[];
  rejected: WireMessage[];
  chosen_model: string;
  rejected_model: string;
}

export interface Vote extends PreferencePair {
  winner: Winner;
}
