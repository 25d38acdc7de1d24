// SPDX-License-Identifier: Apache-2.0
// Drawn on a 20 × 20 grid with lines of 1.6.

const kPaths = {
  plus: 'M10 4v12M4 10h12',
  search: 'M9 3.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11zM13 13l3.5 3.5',
  chat: 'M4 4.5h12v9H9.5L6 16.5v-3H4z',
  compare: 'M3.5 4.5h5.5v11H3.5zM11 4.5h5.5v11H11z',
  train: 'M3.5 3.5v13h13M6 6c1.5 6 4 7 10 7.5',
  gear: 'M4 6h7M15 6h1M4 14h1M9 14h7M11 4v4h4V4zM5 12v4h4v-4z',
  help: 'M7.5 7.5a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.9-1.1 1.8M10 14.4v.1M10 2.8a7.2 7.2 0 1 1 0 14.4 7.2 7.2 0 0 1 0-14.4z',
  menu: 'M3.5 6h13M3.5 10h13M3.5 14h13',
  close: 'M5 5l10 10M15 5 5 15',
  send: 'M10 16V4.5M5 9.5l5-5 5 5',
  stop: 'M6 6h8v8H6z',
  attach: 'M14.5 9 9.6 13.9a2.8 2.8 0 0 1-4-4l5.6-5.6a1.9 1.9 0 0 1 2.7 2.7L8.4 12.5',
  copy: 'M7.5 7.5h8v8h-8zM12.5 7.500v-3h-8v8h3',
  edit: 'M4 16l.8-3.4L13 4.4l2.6 2.6-8.2 8.200z',
  again: 'M15.5 10a5.5 5.5 0 1 1-1.7-4M14.5 2.800v3.400h-3.4',
  trash: 'M4.5 6h11M8 6V4h4v2M6 6l.7 10h6.600L14 6',
  left: 'M12 5l-5 5 5 5',
  right: 'M8 5l5 5-5 5',
  export: 'M10 3.500v8.500M6.5 8.500l3.5 3.5 3.5-3.500M4 15.500h12',
  tool: 'M12.5 3.500a4 4 0 0 0-3.6 5.700L4 14.1 5.9 16l4.9-4.900a4 4 0 0 0 5.4-4.700l-2.4 2.1-2-.5-.5-2z',
  file: 'M5.5 3.500h6l3 3v10h-9zM11.5 3.500v3h3',
  check: 'M4.5 10.500l3.5 3.5 7.5-8',
} as const;

export type IconName = keyof typeof kPaths;

export const Icon = ({ name }: { name: IconName }) => (
  <svg class="icon" viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
    <path d={kPaths[name]} />
  </svg>
);

interface IconButtonProps {
  icon: IconName;
  label: string;
  onClick: (event: MouseEvent) => void;
  class?: string;
  disabled?: boolean;
  pressed?: boolean;
}

export const IconButton = ({ icon, label, onClick, class: extra = '', disabled, pressed }: IconButtonProps) => (
  <button
    type="button"
    class={`icon-button ${extra}`}
    aria-label={label}
    title={label}
    onClick={onClick}
    disabled={disabled}
    aria-pressed={pressed}
  >
    <Icon name={icon} />
  </button>
);
