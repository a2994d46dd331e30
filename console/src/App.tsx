import { App as AntApp, ConfigProvider, Spin } from 'antd';
import enUS from 'antd/locale/en_US';
import zhCN from 'antd/locale/zh_CN';
import { Boundary } from './components/boundary';
import { Frame } from './components/frame';
import { themeOf } from './components/theme';
import { Login } from './pages/login';
import { PreferencesProvider, useText } from './state/preferences';
import { SessionProvider, useSession } from './state/session';

export function App() {
  return (
    <PreferencesProvider>
      <Themed />
    </PreferencesProvider>
  );
}

function Themed() {
  const { language, dark } = useText();
  return (
    <ConfigProvider theme={themeOf(dark)} locale={language === 'zh' ? zhCN : enUS} button={{ autoInsertSpace: false }}>
      <AntApp component={false}>
        <SessionProvider>
          <Boundary>
            <Gate />
          </Boundary>
        </SessionProvider>
      </AntApp>
    </ConfigProvider>
  );
}

function Gate() {
  const { session } = useSession();
  const { t } = useText();
  if (session.stage === 'asking') {
    return (
      <main className="centre">
        <h1 className="hidden">{t('app.name')}</h1>
        <Spin /> <p>{t('app.loading')}</p>
      </main>
    );
  }
  return session.stage === 'in' ? <Frame /> : <Login />;
}
