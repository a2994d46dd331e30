// A node's links as a table.

import type { LinkView } from '../api/types';
import { useText } from '../state/preferences';
import { milliseconds } from '../words/amounts';
import { State } from './parts';

export function Links({ links, node, full = false }: { links: LinkView[]; node: string; full?: boolean }) {
  const { t } = useText();
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label={`${t('nodes.links')}: ${node}`}>
      <table className="flat">
        <thead>
          <tr>
            <th scope="col">{t('nodes.link')}</th>
            {full && <th scope="col">{t('nodes.address')}</th>}
            <th scope="col">{t('nodes.state')}</th>
            <th scope="col">{t('nodes.loss')}</th>
            <th scope="col">{t('nodes.roundtrip')}</th>
          </tr>
        </thead>
        <tbody>
          {links.map((link) => (
            <tr key={link.name}>
              <td>{link.name}</td>
              {full && <td className="mono">{link.address}</td>}
              <td>
                <State kind="link" state={link.state} />
              </td>
              <td>{link.state === 'own' ? '–' : `${Math.round(link.loss_percent)} %`}</td>
              <td>{link.round_trip_us === null ? '–' : milliseconds(link.round_trip_us)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
