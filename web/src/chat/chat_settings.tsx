// SPDX-License-Identifier: Apache-2.0
// A chat's own settings: system prompt, sampling and tools. An empty field means the server's default, which it shows.
import { useState } from 'preact/hooks';
import { props } from '../api/server_state';
import type { Sampling } from '../api/types';
import { Dialog } from '../interface/dialog';
import { t, type Key } from '../text/language';
import type { Conversation } from './conversation';
import { update } from './session';
import { kExampleTools, parseTools } from './tools';

type NumberName = 'temperature' | 'top_p' | 'top_k' | 'min_p' | 'max_tokens' | 'seed';

interface NumberField {
  name: NumberName;
  min: number;
  max: number;
  step: number;
}

const kFields: NumberField[] = [
  { name: 'temperature', min: 0, max: 2, step: 0.05 },
  { name: 'top_p', min: 0, max: 1, step: 0.01 },
  { name: 'top_k', min: 0, max: 1000, step: 1 },
  { name: 'min_p', min: 0, max: 1, step: 0.01 },
  { name: 'max_tokens', min: 1, max: 1_000_000, step: 1 },
  { name: 'seed', min: 0, max: Number.MAX_SAFE_INTEGER, step: 1 },
];

const kHints: Partial<Record<NumberName, Key>> = { max_tokens: 'default.max_tokens', seed: 'default.seed' };

export function ChatSettings({ chat, onClose }: { chat: Conversation; onClose: () => void }) {
  const change = (fields: Partial<Conversation>) => update(chat.id, (now) => ({ ...now, ...fields }));
  const sample = (fields: Sampling) => change({ sampling: { ...chat.sampling, ...fields } });
  return (
    <Dialog kind="sheet" title={t('settings.chat')} onClose={onClose}>
      <label class="field">
        <span>{t('settings.system')}</span>
        <textarea
          rows={4}
          value={chat.system}
          placeholder={t('settings.systemHint')}
          onInput={({ currentTarget }) => change({ system: currentTarget.value })}
        />
      </label>
      <fieldset>
        <legend>{t('settings.sampling')}</legend>
        <div class="field-grid">
          {kFields.map((field) => (
            <NumberInput key={field.name} field={field} value={chat.sampling[field.name]} onChange={sample} />
          ))}
        </div>
        <StopInput stop={chat.sampling.stop ?? []} onChange={sample} />
        <button type="button" class="button" onClick={() => change({ sampling: {} })}>
          {t('settings.reset')}
        </button>
      </fieldset>
      <ToolsInput tools={chat.tools} onChange={(tools) => change({ tools })} />
    </Dialog>
  );
}

interface NumberInputProps {
  field: NumberField;
  value?: number;
  onChange: (fields: Sampling) => void;
}

function NumberInput({ field: { name, min, max, step }, value, onChange }: NumberInputProps) {
  const known = props.value.defaults?.[name as 'temperature'];
  const [typed, setTyped] = useState<string>();
  const text = typed ?? value?.toString() ?? '';
  const number = Number(text);
  const wrong =
    text.trim() !== '' && (!Number.isFinite(number) || number < min || number > max || (step === 1 && number % 1 !== 0));
  const take = (source: string) => {
    setTyped(source);
    const next = Number(source);
    if (source.trim() === '') onChange({ [name]: undefined });
    else if (Number.isFinite(next) && next >= min && next <= max && (step !== 1 || next % 1 === 0)) onChange({ [name]: next });
  };
  return (
    <label class="field">
      <span>{t(`sampling.${name}`)}</span>
      <input
        type="number"
        inputMode="decimal"
        min={min}
        max={max}
        step={step}
        value={text}
        placeholder={known === undefined ? t(kHints[name] ?? 'settings.serverDefault') : t('settings.default', { value: known })}
        aria-invalid={wrong}
        onInput={({ currentTarget }) => take(currentTarget.value)}
        onBlur={() => setTyped(undefined)}
      />
      {wrong && <small class="wrong">{t('settings.range', { min, max: max > 1e9 ? '2⁵³' : max })}</small>}
    </label>
  );
}

function StopInput({ stop, onChange }: { stop: string[]; onChange: (fields: Sampling) => void }) {
  return (
    <label class="field">
      <span>{t('sampling.stop')}</span>
      <textarea
        rows={2}
        value={stop.join('\n')}
        placeholder={t('default.stop')}
        onChange={({ currentTarget }) => {
          const lines = currentTarget.value.split('\n').filter(Boolean);
          onChange({ stop: lines.length ? lines : undefined });
        }}
      />
    </label>
  );
}

function ToolsInput({ tools, onChange }: { tools: string; onChange: (tools: string) => void }) {
  const parsed = parseTools(tools);
  return (
    <fieldset>
      <legend>{t('settings.tools')}</legend>
      <label class="field">
        <span>{t('settings.toolsHint')}</span>
        <textarea
          class="mono"
          rows={8}
          spellcheck={false}
          value={tools}
          aria-invalid={'problem' in parsed}
          onInput={({ currentTarget }) => onChange(currentTarget.value)}
        />
      </label>
      {'problem' in parsed ? (
        <p class="wrong" role="alert">
          {t(`tools.${parsed.problem}`, { detail: parsed.detail })}
        </p>
      ) : (
        <p class="note">{t('tools.count', { count: parsed.tools.length })}</p>
      )}
      <button type="button" class="button" onClick={() => onChange(kExampleTools)}>
        {t('tools.example')}
      </button>
    </fieldset>
  );
}
