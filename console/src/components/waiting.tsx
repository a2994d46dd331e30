import { Spin } from 'antd';
import { useText } from '../state/preferences';

/** Shown until the cluster has told its state. */
export function Waiting() {
  const { t } = useText();
  return (
    <div className="card" role="status">
      <Spin /> {t('stream.never')}
    </div>
  );
}
