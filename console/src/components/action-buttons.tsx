// Actions as buttons and as a menu; what the role may not do is there, but off, and says why.

import { MoreOutlined } from '@ant-design/icons';
import { Button, Dropdown, Tooltip } from 'antd';
import { useState } from 'react';
import { type Action, may } from '../api/actions';
import type { Key } from '../i18n/translate';
import { useText } from '../state/preferences';
import { useMe } from '../state/session';
import { ActionDialog, type Choice } from './action-dialog';

export interface Offer {
  action: Action;
  choice?: Choice;
  primary?: boolean;
}

interface Props {
  offers: Offer[];
  /** These are behind a button with three dots. */
  more?: Offer[];
  /** What they are about, for screen readers. */
  about: string;
  small?: boolean;
}

export function ActionButtons({ offers, more = [], about, small = false }: Props) {
  const { t } = useText();
  const { role } = useMe();
  const [open, setOpen] = useState<Offer | null>(null);
  const name = (offer: Offer) => t(`action.${offer.action.id}` as Key);
  const why = (offer: Offer) =>
    may(role, offer.action.needs) ? '' : t(`role.needs.${offer.action.needs}` as Key, { role: t(`role.${role}`) });
  return (
    <div className="actions">
      {offers.map((offer) => (
        <Tooltip key={offer.action.id} title={why(offer)}>
          <Button
            size={small ? 'small' : 'middle'}
            type={offer.primary ? 'primary' : 'default'}
            danger={offer.action.danger && !offer.primary}
            disabled={why(offer) !== ''}
            onClick={() => setOpen(offer)}
            data-action={offer.action.id}
            aria-label={`${name(offer)}: ${about}`}
          >
            {name(offer)}
          </Button>
        </Tooltip>
      ))}
      {more.length > 0 && (
        <Dropdown
          trigger={['click']}
          menu={{
            items: more.map((offer, index) => ({
              key: String(index),
              label: name(offer),
              title: why(offer),
              danger: offer.action.danger,
              disabled: why(offer) !== '',
            })),
            onClick: ({ key }) => setOpen(more[Number(key)] ?? null),
          }}
        >
          <Button size={small ? 'small' : 'middle'} icon={<MoreOutlined />} aria-label={`${t('common.more')}: ${about}`} aria-haspopup="menu" data-action="more" />
        </Dropdown>
      )}
      {open && <ActionDialog action={open.action} {...(open.choice ? { choice: open.choice } : {})} onClose={() => setOpen(null)} />}
    </div>
  );
}
