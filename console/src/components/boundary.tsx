// A page that breaks takes down itself only, and says so.

import { Alert, Button } from 'antd';
import { Component, type ReactNode } from 'react';
import { useText } from '../state/preferences';

interface State {
  problem: string | null;
}

export class Boundary extends Component<{ children: ReactNode }, State> {
  override state: State = { problem: null };

  static getDerivedStateFromError(error: unknown): State {
    return { problem: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    return this.state.problem === null ? this.props.children : <Broken problem={this.state.problem} />;
  }
}

function Broken({ problem }: { problem: string }) {
  const { t } = useText();
  return (
    <Alert
      type="error"
      showIcon
      message={t('app.broken', { problem })}
      action={<Button onClick={() => location.reload()}>{t('app.reload')}</Button>}
    />
  );
}
