"""The report page's style sheet: light and dark, readable at 390 pixels and on paper."""

STYLE = """
:root{--ink:#1f2933;--soft:#5f6c7b;--line:#e4e7eb;--back:#f7f8fa;--card:#fff;--blue:#2563eb;
--tint:#dbe7ff;--warn:#8a4b00;--warnback:#fff4e0}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa5b4;--line:#2c333d;--back:#12161b;
--card:#1a2027;--blue:#7aa5ff;--tint:#24365c;--warn:#ffcf8a;--warnback:#3a2a10}
img.wide{filter:invert(.9) hue-rotate(180deg)}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:960px;margin:0 auto;padding:24px 16px 64px}
header,section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:24px;margin:0 0 16px}
h1{font-size:17px;font-weight:600;margin:0 0 12px;overflow-wrap:anywhere}
h2{font-size:15px;font-weight:600;margin:0 0 12px}
.score{font-size:64px;font-weight:650;line-height:1;letter-spacing:-.02em;
font-variant-numeric:tabular-nums}
.score small{font-size:28px;font-weight:500;color:var(--soft);margin-left:4px}
.sub{color:var(--soft);margin:8px 0 12px}
.warn{background:var(--warnback);color:var(--warn);border-radius:8px;
padding:8px 12px;margin:0 0 12px}
.interval{position:relative;height:8px;border-radius:4px;background:var(--line);margin:0 0 20px}
.interval i{position:absolute;top:0;bottom:0;border-radius:4px;background:var(--blue);opacity:.35}
.interval b{position:absolute;top:-3px;
width:2px;height:14px;margin-left:-1px;background:var(--blue)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:12px}
.tiles div{border-top:2px solid var(--line);padding-top:8px}
.tiles b{display:block;font-size:20px;font-weight:600;font-variant-numeric:tabular-nums}
.tiles span,.pairs span,figcaption span{color:var(--soft);font-size:13px}
.scroll{overflow-x:auto}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--line);font-weight:400}
thead th{color:var(--soft);font-size:13px}
tbody tr:last-child>*{border-bottom:0}
.num{text-align:right}
td.bar{background:linear-gradient(to right,var(--tint) var(--v),transparent var(--v)) no-repeat
center/100% 70%}
.facts th{color:var(--soft);white-space:nowrap;width:1%}
.facts td{overflow-wrap:anywhere}
.pairs{margin:0;padding-left:20px}
.pairs li{padding:3px 0}
.pairs span{margin-left:10px}
img.wide{display:block;max-width:100%;height:auto;margin:0 auto}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(104px,1fr));gap:16px 12px}
figure{margin:0}
figure img{display:block;height:96px;max-width:100%;border-radius:6px;object-fit:contain}
figcaption{font-size:13px;line-height:1.35;margin-top:6px;overflow-wrap:anywhere}
pre{margin:0;overflow-x:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
summary{cursor:pointer;font-weight:600;margin-bottom:8px}
@media(max-width:480px){main{padding:8px 8px 32px}header,section{padding:16px}
.score{font-size:48px}}
@media print{body{background:#fff}header,section{break-inside:avoid}}
""".strip()
