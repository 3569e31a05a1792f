// @ts-check
const { database } = require("./darkroom.js");

const SERVER = "https://pictures.example.com"; // must stand in the mini-program's list of request domains

/** A Darkroom token for whoever is logged in to WeChat. */
function logIn() {
  return new Promise((resolve, reject) => {
    wx.login({
      fail: reject,
      success: ({ code }) =>
        wx.request({
          url: `${SERVER}/v1/auth/wechat`,
          method: "POST",
          data: { code },
          fail: reject,
          success: ({ statusCode, data }) => {
            const answer = /** @type {{token: string, detail?: string}} */ (data);
            if (statusCode === 200) resolve(answer.token);
            else reject(new Error(answer.detail || `HTTP ${statusCode}`));
          },
        }),
    });
  });
}

App({
  // One for the whole mini-program: all pages share its stream.  It asks for a token when it needs one.
  db: database({ baseUrl: SERVER, token: logIn }),
});
