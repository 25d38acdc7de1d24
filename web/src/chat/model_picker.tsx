// SPDX-License-Identifier: Apache-2.0
// The models of the server with their state; what is loaded stands first.
import { models } from '../api/server_state';
import type { ModelEntry } from '../api/types';
import { formatNumber, t } from '../text/language';

const order = { loaded: 0, loading: 1, available: 2 } as const;
const stateOf = ({ puna }: ModelEntry) => puna?.state ?? 'available';

const sizeInWords = (bytes: number) =>
  bytes >= 1e9
    ? `${formatNumber(bytes / 1e9, { maximumFractionDigits: 1 })} GB`
    : `${formatNumber(bytes / 1e6, { maximumFractionDigits: 1 })} MB`;

function describe(model: ModelEntry): string {
  const { parameters, format, context, bytes } = model.puna ?? {};
  const size = parameters ? formatNumber(parameters, { notation: 'compact', maximumSignificantDigits: 3 }) : '';
  const facts = [size, format, bytes && sizeInWords(bytes), context && t('model.context', { count: formatNumber(context) })]
    .filter(Boolean)
    .join(' · ');
  const state = stateOf(model);
  return `${state === 'loaded' ? '● ' : '○ '}${model.id}${facts ? ` — ${facts}` : ''} (${t(`model.${state}`)})`;
}

interface ModelPickerProps {
  label: string;
  value: string;
  onChange: (id: string) => void;
  disabled?: boolean;
}

export function ModelPicker({ label, value, onChange, disabled }: ModelPickerProps) {
  const known = [...models.value].sort((a, b) => order[stateOf(a)] - order[stateOf(b)]);
  return (
    <select
      class="model-picker"
      aria-label={label}
      value={value}
      disabled={disabled}
      onChange={({ currentTarget }) => onChange(currentTarget.value)}
    >
      {value !== '' && !known.some(({ id }) => id === value) && <option value={value}>{t('model.gone', { name: value })}</option>}
      {known.map((model) => (
        <option key={model.id} value={model.id}>
          {describe(model)}
        </option>
      ))}
      {known.length === 0 && value === '' && <option value="">{t('model.none')}</option>}
    </select>
  );
}
