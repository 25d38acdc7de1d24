// SPDX-License-Identifier: Apache-2.0
// The latest figures of the shown runs: the charts' content for those who read it as a table.
import { formatFigure, formatNumber, t } from '../text/language';
import { figureTitle, kMainFigures } from './figures';
import { lastFigure } from './run_metrics';
import { metricsOf } from './run_state';

const shown = (value: number | undefined) => (value === undefined ? '–' : formatFigure(value));

export function RunTable({ names }: { names: string[] }) {
  if (names.length === 0) return null;
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={t('train.latest')}>
      <table class="figures-table">
        <caption>{t('train.latest')}</caption>
        <thead>
          <tr>
            <th scope="col">{t('train.run')}</th>
            <th scope="col">{t('train.step')}</th>
            {kMainFigures.map((figure) => (
              <th scope="col" key={figure}>
                {figureTitle(figure)}
              </th>
            ))}
            <th scope="col">{t('train.heldOutLoss')}</th>
          </tr>
        </thead>
        <tbody>
          {names.map((name) => {
            const { train, heldOut } = metricsOf.value.get(name)!;
            return (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{formatNumber(train.at(-1)?.step ?? 0)}</td>
                {kMainFigures.map((figure) => (
                  <td key={figure}>{shown(lastFigure(train, figure))}</td>
                ))}
                <td>{shown(lastFigure(heldOut, 'loss'))}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
